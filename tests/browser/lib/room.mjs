// A room that is made through the control API, without signaling: browsers come by a page of their own that calls the
// API (room-page.mjs), other clients by SDP (sdp.mjs).

import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { createWorker } from '../../../controlplane/client-node/dist/index.js';
import { patchCandidates } from './relay.mjs';

const PAGE = path.join(path.dirname(fileURLToPath(import.meta.url)), 'room-page.mjs');

/** The page, and what it asks of the control API: a browser does not trust the development certificate. */
async function serve(control) {
  const { outputFiles } = await build({ entryPoints: [PAGE], bundle: true, format: 'iife', write: false });
  const page = `<!doctype html><title>room</title><script>${outputFiles[0].text.replaceAll('</script', '<\\/script')}</script>`;
  const server = http.createServer(async (request, response) => {
    if (!request.url.startsWith('/v1/')) return response.setHeader('content-type', 'text/html').end(page);
    let body = '';
    for await (const data of request) body += data;
    try {
      const answer = await control.call(request.method, request.url, body ? JSON.parse(body) : undefined);
      response.end(JSON.stringify(answer));
    } catch (error) {
      response.writeHead(502).end(error.message);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

export class Room {
  /** `options`: of the router. */
  static async open(servers, options) {
    const room = new Room();
    room.worker = await createWorker({ url: servers.control.url, caFile: path.join(servers.folder, 'control-cert.pem') });
    room.router = await room.worker.createRouter(options);
    room.server = await serve(servers.control);
    return room;
  }

  /** One in a browser, who has joined; `step(name, ...)` is done by the page. `relay`: media goes through it. */
  async browser(browser, { relay } = {}) {
    const context = await browser.newContext({ viewport: { width: 800, height: 600 } });
    const page = await context.newPage();
    const heard = [];
    page.on('console', (message) => heard.push(message.text()));
    page.on('pageerror', (error) => heard.push(`uncaught: ${error.stack}`));
    if (relay) {
      await context.exposeFunction('relayPortFor', (ip, port) => relay.portFor(ip, port));
      await page.addInitScript(patchCandidates);
    }
    await page.goto(`http://127.0.0.1:${this.server.address().port}/`);
    const step = async (name, options) => {
      try {
        return await page.evaluate(([step, data]) => window.person[step](data), [name, options]);
      } catch (error) {
        throw new Error(`${name}: ${error.message}\n${heard.join('\n')}`, { cause: error });
      }
    };
    await step('join', { routerId: this.router.id, rtpCapabilities: this.router.rtpCapabilities });
    return { step, heard, close: () => context.close() };
  }

  async close() {
    await this.worker.close();
    this.server.closeAllConnections();
    this.server.close();
  }
}
