// Draws Vega specs the way Kibana does, without a browser: 9 has expressions interpreted, 7.10 compiles them. Reads one job a line from standard input, writes one answer a line:
//   {"vega": "vega-7.10", "spec": {...}, "replies": {"DATA": {...}}, "width": 900, "height": 500, "svg": true}
//   {"warnings": [], "isBroken": false, "marks": {"NAME": [{"text": ..., "datum": {...}}]}, "texts": [], "ms": 12, "svg": "..."}
'use strict';
const fs = require('fs');
const path = require('path');
const readline = require('readline');

const loaded = new Map();

// The one-file build: the modules of some versions bring two copies of the function registry.
function load(name) {
  if (!loaded.has(name)) {
    const vega = require(path.join(__dirname, 'node_modules', name, 'build', 'vega.js'));
    for (const prefix of ['kibana', 'opensearchDashboards'])
      for (const action of ['AddFilter', 'RemoveFilter', 'RemoveAllFilters', 'SetTimeFilter']) vega.expressionFunction(prefix + action, () => null);
    loaded.set(name, { vega, interpreter: name === 'vega-7.10' ? undefined : loadInterpreter(vega) });
  }
  return loaded.get(name);
}

function loadInterpreter(vega) {
  const exported = {};
  // The one package that it asks for is part of vega's one-file build.
  new Function('exports', 'module', 'require', fs.readFileSync(path.join(__dirname, 'node_modules/vega-interpreter/build/vega-interpreter.js'), 'utf8'))(exported, {}, () => vega);
  return exported.expressionInterpreter;
}

function collect(item, answer) {
  if (item.marktype === 'text') {
    for (const text of item.items) if (text.text !== undefined && text.text !== null && text.text !== '') answer.texts.push(String(text.text));
  }
  if (item.marktype && item.name) {
    const list = answer.marks[item.name] ??= [];
    for (const { text, tooltip, href, x, y, x2, y2, width, height, fill, datum } of item.items)
      list.push({ text, tooltip, href, x, y, x2, y2, width, height, fill, datum: plain(datum) });
  }
  for (const inner of item.items ?? []) collect(inner, answer);
}

function plain(datum) {
  const values = {};
  for (const [key, value] of Object.entries(datum ?? {})) if (value === null || typeof value !== 'object') values[key] = value;
  return values;
}

async function draw(job) {
  const { vega, interpreter } = load(job.vega);
  const warnings = [];
  const logger = { level: () => logger, info: () => logger, debug: () => logger };
  for (const level of ['error', 'warn']) logger[level] = (...args) => { warnings.push(args.map(String).join(' ')); return logger; };
  const spec = job.spec;
  delete spec.config?.kibana;
  for (const data of spec.data) {
    if (!data.url) continue;
    if (!job.replies[data.name]) throw new Error(`no reply for the data ${data.name}`);
    data.values = job.replies[data.name];
    delete data.url;
  }
  Object.assign(spec, { width: job.width, height: job.height, autosize: { type: 'fit', contains: 'padding' } });
  const started = process.hrtime.bigint();
  const view = new vega.View(vega.parse(spec, {}, { ast: interpreter !== undefined }), { renderer: 'none', logger, expr: interpreter });
  await view.runAsync();
  const svg = await view.toSVG();
  const answer = { warnings, marks: {}, texts: [], ms: Number(process.hrtime.bigint() - started) / 1e6 };
  collect(view.scenegraph().root, answer);
  // Outside of texts, which may be anybody's; in them only what a missing value becomes.
  answer.isBroken = /NaN|Infinity|undefined/.test(svg.replace(/>[^<]*</g, '><').replace(/aria-[a-z]+="[^"]*"/g, '')) || answer.texts.some(text => /\bNaN\b|\bundefined\b|\[object Object\]/.test(text));
  if (job.svg) answer.svg = svg;
  view.finalize();
  return answer;
}

let queue = Promise.resolve();
readline.createInterface({ input: process.stdin, crlfDelay: Infinity }).on('line', line => {
  queue = queue.then(async () => {
    let answer;
    try {
      answer = await draw(JSON.parse(line));
    } catch (error) {
      answer = { error: String(error.stack ?? error) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  });
});
