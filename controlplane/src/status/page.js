// The status page: asks the control API once a second, keeps three minutes, draws them. Everything
// that comes from the server goes into the page as text.

const SAMPLES = 180;
const COLOURS = ['#ff8a4c', '#45e0a0', '#5aa9ff', '#c58bff', '#ffd166', '#ff6b9d', '#7ce0ff', '#b8e986'];
const element = (id) => document.getElementById(id);

let token = sessionStorage.getItem('token') ?? '';
let before = null;
const history = [];

const short = (value) => {
  const [scaled, prefix] =
    value >= 999.5e6 ? [value / 1e9, 'G'] : value >= 999.5e3 ? [value / 1e6, 'M'] : value >= 999.5 ? [value / 1e3, 'k'] : [value, ''];
  const digits = prefix === '' ? 0 : scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2;
  return scaled.toFixed(digits) + prefix;
};
const bits = (value) => `${short(value)}b/s`;
const percent = (value) => `${(100 * value).toFixed(value > 0 && value < 0.0995 ? 1 : 0)} %`;
const micros = (value) => (value < 9_999.5 ? `${value.toFixed(0)} µs` : `${(value / 1_000).toFixed(0)} ms`);
const time = (seconds) => {
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${seconds} s`;
};

const GRAPHS = [
  { title: 'Sent', unit: bits, lines: (s) => [s.bits] },
  { title: 'Packets sent each second', unit: short, lines: (s) => [s.packets] },
  { title: 'Busy, each worker', unit: percent, most: 1, lines: (s) => s.busy },
  { title: 'Delay in the server, p99 of each worker', unit: micros, lines: (s) => s.p99 },
  { title: 'Dropped each second', unit: short, lines: (s) => [s.dropped] },
  { title: 'Participants', unit: short, lines: (s) => [s.people] },
];

for (const graph of GRAPHS) {
  const box = document.createElement('div');
  box.className = 'graph';
  const head = document.createElement('h2');
  head.append(graph.title, (graph.now = document.createElement('output')));
  graph.svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  graph.svg.setAttribute('viewBox', `0 0 ${SAMPLES - 1} 100`);
  graph.svg.setAttribute('preserveAspectRatio', 'none');
  graph.svg.setAttribute('role', 'img');
  box.append(head, graph.svg);
  element('graphs').append(box);
}

function draw(graph) {
  const rows = history.map((sample) => graph.lines(sample));
  const count = Math.max(...rows.map((row) => row.length));
  const most = graph.most ?? Math.max(1e-9, ...rows.flat()) * 1.1;
  while (graph.svg.childElementCount < count) {
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('stroke', COLOURS[graph.svg.childElementCount % COLOURS.length]);
    graph.svg.append(path);
  }
  for (let line = 0; line < count; line++) {
    const points = rows.map((row, at) => {
      const x = SAMPLES - rows.length + at;
      const y = 100 - (98 * Math.min(row[line] ?? 0, most)) / most;
      return `${at ? 'L' : 'M'}${x} ${y.toFixed(2)}`;
    });
    graph.svg.children[line].setAttribute('d', points.join(''));
  }
  const now = rows.at(-1);
  graph.now.value = now.length <= 4 ? now.map(graph.unit).join('  ') : `up to ${graph.unit(Math.max(...now))}`;
  graph.svg.setAttribute('aria-label', `${graph.title}: ${graph.now.value}`);
}

/** `>name`: a number, to the right. A cell may be `[text, class]`. */
function table(id, head, rows) {
  const row = (cells, kind) => {
    const line = document.createElement('tr');
    cells.forEach((cell, at) => {
      const [text, look] = Array.isArray(cell) ? cell : [cell, ''];
      const made = document.createElement(kind);
      made.textContent = kind === 'th' ? text.replace(/^>/, '') : text;
      if (head[at].startsWith('>')) made.classList.add('right');
      if (look) made.classList.add(look);
      line.append(made);
    });
    return line;
  };
  element(id).replaceChildren(row(head, 'th'), ...rows.map((cells) => row(cells, 'td')));
}

const total = (worker) => Object.values(worker.drops).reduce((sum, count) => sum + count, 0);

/** Drops per second, of a worker and reason; a worker that began anew counts from 0. */
function dropped(now, seconds) {
  return now.workers.flatMap((worker) => {
    const old = before?.top.workers.find((one) => one.id === worker.id);
    return Object.entries(worker.drops).map(([reason, count]) => {
      const more = old ? count - (old.drops[reason] ?? 0) : 0;
      return { worker: worker.id, reason, count, rate: (more >= 0 ? more : count) / seconds };
    });
  });
}

function show(top) {
  const at = performance.now();
  const drops = dropped(top, before ? (at - before.at) / 1_000 : 1);
  const sum = (figure) => top.workers.reduce((all, worker) => all + figure(worker), 0);
  history.push({
    bits: sum((one) => one.bitrateOutBps),
    packets: sum((one) => one.packetsOutPerSecond),
    busy: top.workers.map((one) => one.cpuBusy),
    p99: top.workers.map((one) => one.forwardingDelayUs.p99),
    dropped: drops.reduce((all, one) => all + one.rate, 0),
    people: top.host.participants,
  });
  history.splice(0, Math.max(0, history.length - SAMPLES));
  before = { top, at };

  element('about').textContent = `${location.host}, version ${top.version}, up ${time(top.uptimeS)}`;
  const until = top.host.deadline ? ` until ${new Date(top.host.deadline).toLocaleTimeString()}` : '';
  say(top.host.drained ? 'drained' : top.host.draining ? `draining${until}` : 'serving', top.host.draining ? 'warn' : '');
  const numbers = [
    ['rooms', top.host.routers],
    ['participants', top.host.participants],
    ['transports', top.host.transports],
    ['producers', top.producers],
    ['consumers', top.consumers],
  ];
  element('numbers').replaceChildren(
    ...numbers.map(([name, value]) => {
      const box = document.createElement('div');
      box.className = 'number';
      const [figure, label] = [document.createElement('b'), document.createElement('span')];
      [figure.textContent, label.textContent] = [value.toLocaleString('en'), name];
      box.append(figure, label);
      return box;
    }),
  );
  GRAPHS.forEach(draw);
  table(
    'workers',
    ['worker', '>core', 'status', '>busy', '>rooms', '>transports', '>consumers', '>packets/s', '>out', '>p50', '>p99', '>dropped'],
    top.workers.map((one) => [
      one.id, one.core ?? '–', [one.status, one.status === 'running' ? '' : 'bad'], [percent(one.cpuBusy), one.cpuBusy > 0.9 ? 'bad' : ''],
      one.routers, one.transports, one.consumers, short(one.packetsOutPerSecond), bits(one.bitrateOutBps),
      micros(one.forwardingDelayUs.p50), [micros(one.forwardingDelayUs.p99), one.forwardingDelayUs.p99 > 20_000 ? 'bad' : ''], total(one).toLocaleString('en'),
    ]),
  );
  table(
    'routers',
    ['room', '>worker', '>people', '>consumers', '>in', '>out'],
    top.routers.map((one) => [one.id, one.workerId, one.counts.participants, one.counts.consumers, bits(one.recvBitrate), bits(one.sendBitrate)]),
  );
  table(
    'transports',
    ['transport', 'of', '>in', '>out', '>estimate', '>lost'],
    top.transports.map((one) => {
      const lost = one.rtpPacketLossSent;
      return [
        one.transportId, one.participantId ?? '–', bits(one.recvBitrate), bits(one.sendBitrate),
        one.availableOutgoingBitrate === undefined ? '–' : bits(one.availableOutgoingBitrate),
        lost === undefined ? '–' : [percent(lost), lost > 0.1 ? 'bad' : ''],
      ];
    }),
  );
  drops.sort((a, b) => b.rate - a.rate || b.count - a.count);
  table(
    'drops',
    ['because of', '>worker', '>now/s', '>since start'],
    drops.slice(0, 30).map((one) => [one.reason, one.worker, short(one.rate), one.count.toLocaleString('en')]),
  );
}

function say(text, look) {
  element('state').textContent = text;
  element('state').className = look;
}

async function look() {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch('v1/top?count=12', { headers, cache: 'no-store' });
  if (answer.status === 401 || answer.status === 403) {
    const problem = await answer.json().catch(() => ({}));
    element('login').hidden = false;
    element('main').hidden = true;
    element('refused').textContent = token ? (problem.detail ?? 'That is not accepted.') : '';
    say('', '');
    return false;
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `the answer is ${answer.status}`);
  }
  element('login').hidden = true;
  element('main').hidden = false;
  show(await answer.json());
  return true;
}

async function follow() {
  for (;;) {
    // A page that nobody sees asks for nothing.
    if (!document.hidden) {
      try {
        if (!(await look())) return;
      } catch (error) {
        say(`not now: ${error.message}`, 'bad');
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

element('login').addEventListener('submit', (event) => {
  event.preventDefault();
  token = element('token').value.trim();
  sessionStorage.setItem('token', token);
  void follow();
});
void follow();
