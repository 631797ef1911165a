// The page of the API: reads /openapi.json and shows it. Everything that comes from there goes into
// the page as text.

const element = (id) => document.getElementById(id);
const METHODS = ['get', 'post', 'patch', 'put', 'delete'];
let token = sessionStorage.getItem('token') ?? '';
let api;

/** An element with a class and what is in it: texts and elements. */
function make(name, look, ...inside) {
  const made = document.createElement(name);
  if (look) made.className = look;
  made.append(...inside.filter((one) => one !== undefined && one !== ''));
  return made;
}

/** `code`, **strong**, *emphasis*. */
function inline(text) {
  const parts = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*)/);
  return parts.map((part) => {
    if (part.startsWith('`')) return make('code', '', part.slice(1, -1));
    if (part.startsWith('**')) return make('b', '', part.slice(2, -2));
    if (part.startsWith('*') && part.length > 2) return make('em', '', part.slice(1, -1));
    return part;
  });
}
const paragraphs = (text) => text.split(/\n\s*\n/).map((one) => make('p', '', ...inline(one)));

const short = (reference) => reference.split('/').at(-1).split('.').at(-1);

/** Without references, and with all of an `allOf` in one. */
function whole(schema) {
  let result = schema;
  if (result.$ref) {
    const { $ref, ...rest } = result;
    const target = $ref.slice(2).split('/').reduce((at, key) => at[key], api);
    result = { ...whole(target), ...rest, named: short($ref) };
  }
  if (result.allOf) {
    const { allOf, ...rest } = result;
    const parts = allOf.map(whole);
    const properties = Object.assign({}, ...parts.map((part) => part.properties ?? {}));
    result = {
      ...Object.assign({}, ...parts),
      properties,
      required: parts.flatMap((part) => part.required ?? []),
      named: undefined,
      ...rest,
    };
  }
  const choices = result.oneOf ?? result.anyOf;
  const real = choices?.filter((one) => one.type !== 'null');
  if (real?.length === 1) {
    const { oneOf, anyOf, ...rest } = result;
    result = { ...whole(real[0]), ...rest };
  }
  return result;
}

const types = (schema) => [schema.type].flat().filter((one) => one && one !== 'null');

function kind(schema) {
  const full = whole(schema);
  if (full.enum) return full.enum.map((one) => JSON.stringify(one)).join(' | ');
  if (full.const !== undefined) return JSON.stringify(full.const);
  if (types(full).includes('array')) return `${kind(full.items ?? {})}[]`;
  if (full.oneOf ?? full.anyOf) return (full.oneOf ?? full.anyOf).map(kind).join(' | ');
  return full.named ?? (types(full).join(' | ') || (full.properties ? 'object' : 'any'));
}

function rules(schema) {
  const full = whole(schema);
  const of = (low, high, unit) =>
    low === undefined && high === undefined ? [] : [`${low ?? 0} to ${high ?? '∞'}${unit}`];
  // The whole range of a number's type says nothing.
  const isWide = full.minimum === 0 && (full.maximum === undefined || full.maximum >= 65_535);
  return [
    ...(isWide ? [] : of(full.minimum, full.maximum, '')),
    ...of(full.minLength, full.maxLength, ' characters'),
    ...of(full.minItems, full.maxItems, ' entries'),
    ...(full.pattern && full.pattern.length < 60 ? [full.pattern] : []),
  ].join(', ');
}

/** What can be looked into: the properties of an object, or of the entries of a list. */
function inner(schema) {
  const full = whole(schema);
  if (types(full).includes('array')) return inner(full.items ?? {});
  if (full.properties && Object.keys(full.properties).length) return full;
  return typeof full.additionalProperties === 'object' ? inner(full.additionalProperties) : undefined;
}

function fields(schema, depth) {
  const rows = Object.entries(schema.properties).map(([name, field]) => {
    const full = whole(field);
    const row = make(
      'li',
      '',
      make('code', '', name),
      make('span', 'kind', kind(field)),
      rules(field) && make('span', 'rule', rules(field)),
      schema.required?.includes(name) ? make('span', 'needed', 'required') : '',
      full.description ? make('span', 'what', ...inline(field.description ?? full.description)) : '',
    );
    const below = inner(field);
    if (below && depth < 8) row.append(later('fields', () => fields(below, depth + 1)));
    return row;
  });
  return make('ul', 'fields', ...rows);
}

/** Made when it is opened. */
function later(title, content, isOpen = false) {
  const box = make('details', '', make('summary', '', title));
  const fill = () => box.open && box.childElementCount === 1 && box.append(content());
  box.addEventListener('toggle', fill);
  box.open = isOpen;
  if (isOpen) fill();
  return box;
}

const shown = (example) => make('pre', '', typeof example === 'string' ? example : JSON.stringify(example, null, 2));

function body(content, isOpen) {
  const found = [];
  for (const [type, { schema, example }] of Object.entries(content ?? {})) {
    const below = schema && inner(schema);
    if (type !== 'application/json') found.push(make('span', 'rule', type));
    if (below) found.push(later(`fields of ${kind(schema)}`, () => fields(below, 0), isOpen));
    if (example !== undefined) found.push(later('example', () => shown(example)));
  }
  return found;
}

function parameters(list) {
  const rows = list.map((one) =>
    make(
      'li',
      '',
      make('code', '', one.name),
      make('span', 'kind', kind(one.schema)),
      rules(one.schema) && make('span', 'rule', rules(one.schema)),
      make('span', one.required ? 'needed' : 'rule', `${one.in}${one.required ? ', required' : ''}`),
      make('span', 'what', ...inline(one.description ?? '')),
    ),
  );
  return make('ul', 'fields', ...rows);
}

function responses(all) {
  return Object.entries(all).map(([status, given]) => {
    const answer = whole(given);
    const isGood = status.startsWith('2');
    const inside = make('div', '', make('p', '', ...inline(answer.description)));
    if (isGood) inside.append(...body(answer.content, false));
    return make('div', `status ${isGood ? 'good' : 'wrong'}`, make('b', '', status), inside);
  });
}

function call(path, method, operation) {
  const name = method.toUpperCase();
  const scope = operation.security?.[0] && Object.values(operation.security[0])[0]?.[0];
  const title = make(
    'h3',
    '',
    make('span', `method ${name}`, name),
    make('span', 'path', path),
    make('span', 'summary', operation.summary),
    scope && make('span', 'scope', scope),
  );
  const box = make('section', 'card call', title, make('p', '', ...inline(operation.description ?? '')));
  box.id = operation.operationId;
  if (operation.parameters) box.append(make('h4', '', 'Parameters'), parameters(operation.parameters));
  if (operation.requestBody) {
    const note = operation.requestBody.required ? 'Body' : 'Body (may be left out)';
    box.append(make('h4', '', note), ...body(operation.requestBody.content, true));
  }
  box.append(make('h4', '', 'Answers'), ...responses(operation.responses));
  return box;
}

function show() {
  document.title = api.info.title;
  element('about').textContent = `${location.host}, version ${api.info.version}`;
  const link = make('a', '', 'openapi.json');
  link.href = 'openapi.json';
  element('words').replaceChildren(...paragraphs(api.info.description), make('p', '', link));
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })),
  );
  // The other way round: what the server sends to those who hold no stream.
  for (const item of Object.values(api.webhooks ?? {})) {
    operations.push({ path: 'address of a webhook', method: 'post', operation: item.post });
  }
  const [calls, index] = [[], []];
  for (const tag of api.tags) {
    const own = operations.filter((one) => one.operation.tags?.[0] === tag.name);
    if (!own.length) continue;
    const head = [make('h2', '', tag.name), make('p', '', ...inline(tag.description))];
    calls.push(make('div', 'group', ...head, ...own.map((one) => call(one.path, one.method, one.operation))));
    index.push(make('li', 'tag', tag.name));
    for (const { path, method, operation } of own) {
      const name = method.toUpperCase();
      const link = make('a', '', make('span', `method ${name}`, name), operation.summary);
      link.href = `#${operation.operationId}`;
      link.title = path;
      const row = make('li', '', link);
      row.dataset.words = `${name} ${path} ${operation.summary} ${operation.operationId}`.toLowerCase();
      index.push(row);
    }
  }
  element('calls').replaceChildren(...calls);
  element('index').replaceChildren(...index);
  const events = Object.entries(api.components.schemas).find(([name]) => name.endsWith('.EventsByName'))?.[1];
  if (events) {
    const text = 'What stands in `data:` of the stream, by the name in `event:`; in webhooks it is `data` of the `type`.';
    element('events').replaceChildren(make('h2', '', 'Events'), make('p', '', ...inline(text)), fields(events, 0));
  }
  // What was made just now could not be scrolled to before.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

element('filter').addEventListener('input', () => {
  const wanted = element('filter').value.trim().toLowerCase();
  for (const row of element('index').children) {
    row.hidden = wanted !== '' && !(row.dataset.words ?? '').includes(wanted);
  }
});

async function look() {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch('openapi.json', { headers, cache: 'no-store' });
  const isRefused = answer.status === 401 || answer.status === 403;
  element('login').hidden = !isRefused;
  element('main').hidden = !answer.ok;
  if (isRefused) {
    const problem = await answer.json().catch(() => ({}));
    element('refused').textContent = token ? (problem.detail ?? 'That is not accepted.') : '';
    return;
  }
  if (!answer.ok) throw new Error(`the answer is ${answer.status}`);
  api = await answer.json();
  show();
}

function begin() {
  look().catch((error) => {
    element('state').textContent = `not now: ${error.message}`;
    element('state').className = 'bad';
  });
}

element('login').addEventListener('submit', (event) => {
  event.preventDefault();
  token = element('token').value.trim();
  sessionStorage.setItem('token', token);
  begin();
});
begin();
