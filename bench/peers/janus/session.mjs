// One session of Janus's HTTP interface: requests by POST, events by a long poll, matched by their
// transactions. Knows nothing of rooms.

import { Agent, request } from "node:http";

const agent = new Agent({ keepAlive: true, maxSockets: 16 });
const LIMIT_MS = 12000;

function exchange(url, method, body) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, agent, headers: { "content-type": "application/json" } }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("error", reject);
      answer.on("end", () => {
        try {
          resolve(JSON.parse(Buffer.concat(parts).toString()));
        } catch (error) {
          reject(error);
        }
      });
    });
    sent.on("error", reject);
    sent.end(body && JSON.stringify(body));
  });
}

export class Session {
  #url;
  #next = 1;
  #waiting = new Map();
  #up = new Map();

  /** Asks again as long as Janus is still starting. */
  static async open(url) {
    for (let left = 100; ; left -= 1) {
      try {
        return await Session.#create(url);
      } catch (error) {
        if (error.code !== "ECONNREFUSED" || left === 0) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  static async #create(url) {
    const session = new Session();
    session.#url = url;
    const { id } = (await session.#post("", { janus: "create" })).data;
    session.#url = `${url}/${id}`;
    session.#poll();
    return session;
  }

  async attach() {
    const { id } = (await this.#post("", { janus: "attach", plugin: "janus.plugin.videoroom" })).data;
    return new Handle(this, id);
  }

  async #post(path, body, transaction = `t${this.#next++}`) {
    const answer = await exchange(`${this.#url}${path}`, "POST", { ...body, transaction });
    if (answer.janus === "error") throw new Error(`Janus: ${answer.error.reason}`);
    return answer;
  }

  /** A message to the plugin; its answer comes at once or as an event. */
  async message(handle, body, jsep) {
    const transaction = `t${this.#next++}`;
    const event = this.#wait(transaction);
    // Nobody is there to hear of it if the request itself fails.
    event.catch(() => {});
    const first = await this.#post(`/${handle}`, { janus: "message", body, ...(jsep && { jsep }) }, transaction);
    const answer = first.janus === "ack" ? await event : first;
    this.#waiting.delete(transaction);
    if (answer.janus === "error") throw new Error(`Janus: ${answer.error.reason}`);
    const data = answer.plugindata.data;
    if (data.error) throw new Error(`VideoRoom, ${body.request}: ${data.error}`);
    return { data, jsep: answer.jsep };
  }

  async detach(handle) {
    await this.#post(`/${handle}`, { janus: "detach" });
  }

  /** When the handle's transport has keys. */
  async connected(handle) {
    await this.#upOf(handle).promise;
  }

  #wait(key) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`Janus does not answer ${key}`)), LIMIT_MS);
      this.#waiting.set(key, (answer) => (clearTimeout(timer), resolve(answer)));
    });
  }

  #upOf(handle) {
    if (!this.#up.has(handle)) {
      let resolve;
      const promise = new Promise((done) => (resolve = done));
      this.#up.set(handle, { promise, resolve });
    }
    return this.#up.get(handle);
  }

  async #poll() {
    for (;;) {
      const events = await exchange(`${this.#url}?maxev=50`, "GET");
      for (const event of [events].flat()) this.#take(event);
    }
  }

  #take(event) {
    if (event.janus === "webrtcup") this.#upOf(event.sender).resolve();
    if (event.janus === "hangup") console.error(`Janus hung up ${event.sender}: ${event.reason}`);
    if (event.transaction && event.janus !== "ack") this.#waiting.get(event.transaction)?.(event);
  }
}

class Handle {
  constructor(session, id) {
    this.session = session;
    this.id = id;
  }

  message(body, jsep) {
    return this.session.message(this.id, body, jsep);
  }

  detach() {
    return this.session.detach(this.id);
  }

  connected() {
    return this.session.connected(this.id);
  }
}
