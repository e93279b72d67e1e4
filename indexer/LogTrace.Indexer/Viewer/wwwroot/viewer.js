// The viewer: a list of chains, or one chain as a waterfall. Everything from the API is untrusted text: it reaches the page
// through textContent only, and never as markup, attribute names or URLs other than our own.
(() => {
  'use strict';

  const main = document.getElementById('main');
  const status = document.getElementById('status');
  const filters = document.getElementById('filters');
  const inputs = Object.fromEntries(['text', 'service', 'errors', 'incomplete'].map(id => [id, document.getElementById(id)]));
  const refreshMillis = 2000;
  const settleMillis = 5000;
  const rowsAtOnce = 2000;

  let timer = 0;
  let shown = '';        // the JSON that is drawn, so that a refresh without news leaves the page alone
  let expanded = new Set();
  let isPathShown = true;
  let turn = 0;          // answers to questions of an earlier page are thrown away

  // ---- small things

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined && text !== null) made.textContent = String(text);
    return made;
  }

  function hueOf(name) {
    let hash = 2166136261;
    for (let index = 0; index < name.length; index++) hash = Math.imul(hash ^ name.charCodeAt(index), 16777619);
    return ((hash >>> 0) * 137.508) % 360;
  }

  function service(name) {
    const made = element('span', name ? 'service' : 'service unknown', name || 'unknown');
    if (name) made.style.setProperty('--hue', hueOf(name).toFixed(0));
    return made;
  }

  function took(micros) {
    if (micros === null || micros === undefined) return '';
    if (micros < 1000) return micros + ' µs';
    if (micros < 1e6) return (micros / 1e3).toFixed(micros < 1e4 ? 2 : micros < 1e5 ? 1 : 0) + ' ms';
    if (micros < 60e6) return (micros / 1e6).toFixed(micros < 1e7 ? 2 : 1) + ' s';
    return Math.floor(micros / 60e6) + ' min ' + Math.round(micros % 60e6 / 1e6) + ' s';
  }

  function clock(micros, withDate) {
    const date = new Date(micros / 1000);
    if (isNaN(date)) return '?';
    const two = number => String(number).padStart(2, '0');
    const time = two(date.getHours()) + ':' + two(date.getMinutes()) + ':' + two(date.getSeconds()) + '.' + String(date.getMilliseconds()).padStart(3, '0');
    const isToday = date.toDateString() === new Date().toDateString();
    const day = date.getFullYear() + '-' + two(date.getMonth() + 1) + '-' + two(date.getDate());
    return withDate ? day + ' ' + time : isToday ? time : day;
  }

  function plural(count, one, many) {
    return count.toLocaleString('en') + ' ' + (count === 1 ? one : many);
  }

  function badge(text, kind, title) {
    const made = element('span', 'badge ' + (kind || ''), text);
    if (title) made.title = title;
    return made;
  }

  function note(title, text) {
    const made = element('div', 'note');
    made.append(element('strong', '', title), element('span', '', text));
    return made;
  }

  function say(text, isBad) {
    status.textContent = text;
    status.classList.toggle('bad', Boolean(isBad));
  }

  // An id that a path would change (slashes, dots alone) goes into the query instead.
  function chainUrl(prefix, id) {
    return /[\/\\]|^\.+$/.test(id) ? prefix + '?id=' + encodeURIComponent(id) : prefix + '/' + encodeURIComponent(id);
  }

  function idOfPage() {
    if (location.pathname !== '/chain' && !location.pathname.startsWith('/chain/')) return null;
    const inQuery = new URLSearchParams(location.search).get('id');
    if (inQuery) return inQuery;
    try {
      return decodeURIComponent(location.pathname.slice('/chain/'.length));
    } catch {
      return location.pathname.slice('/chain/'.length);
    }
  }

  async function ask(url) {
    const response = await fetch(url, { headers: { accept: 'application/json' } });
    const text = await response.text();
    if (response.ok) return text;
    let message = response.status + ' ' + response.statusText;
    try {
      message = JSON.parse(text).error || message;
    } catch {
      // No JSON: the status line has to do.
    }
    throw new Error(message);
  }

  // ---- recent chains

  function listQuery() {
    const query = new URLSearchParams();
    for (const name of ['text', 'service']) if (inputs[name].value.trim()) query.set(name, inputs[name].value.trim());
    for (const name of ['errors', 'incomplete']) if (inputs[name].checked) query.set(name, '1');
    return query;
  }

  function badgesOf(chain) {
    const badges = element('span', 'badges');
    const lost = chain.placeholder_count + chain.gap_count + chain.callee_only_count;
    if (chain.error_count) badges.append(badge('✕ ' + plural(chain.error_count, 'error', 'errors'), 'error', 'Records that tell of a failure: calls, requests and log lines'));
    if (chain.alarm_count) badges.append(badge(plural(chain.alarm_count, 'alarm', 'alarms'), 'error'));
    if (lost && isArriving(chain)) badges.append(badge('arriving', '', 'Its newest record is only seconds old: the rest may be on its way'));
    else if (lost) badges.append(badge(lost.toLocaleString('en') + ' lost', 'loss', lossText(chain)));
    if (chain.likely_loss_count) badges.append(badge(chain.likely_loss_count + ' likely lost', 'loss'));
    if (chain.ambiguous_count) badges.append(badge('ambiguous', 'loss', 'Some ids are used by calls that cannot be told apart'));
    if (chain.sampled) badges.append(badge('sampled'));
    if (chain.debug) badges.append(badge('debug'));
    return badges;
  }

  // A request that is not over yet looks like one that lost records.
  function isArriving(chain) {
    return !chain.complete && Math.abs(Date.now() - chain.last_record_us / 1000) < settleMillis;
  }

  function lossText(chain) {
    const parts = [];
    if (chain.placeholder_count) parts.push(plural(chain.placeholder_count, 'call known from its children only', 'calls known from their children only'));
    if (chain.gap_count) parts.push(plural(chain.gap_count, 'missing number', 'missing numbers'));
    if (chain.callee_only_count) parts.push(plural(chain.callee_only_count, 'call without its caller’s record', 'calls without their caller’s record'));
    return parts.join(', ');
  }

  function drawList(chains) {
    if (!chains.length) {
      const isFiltered = listQuery().size > 0;
      main.replaceChildren(isFiltered
        ? note('Nothing matches', 'No stored chain meets this filter.')
        : note('No chains yet', 'They appear here within seconds of being logged.'));
      return;
    }

    const longest = Math.max(...chains.map(chain => chain.duration_us), 1);
    const list = element('div', 'chains');
    const head = element('div', 'chain head');
    for (const title of ['Start', 'Entry', 'Duration', 'Records', '']) head.append(element('span', '', title));
    list.append(head);
    for (const chain of chains) {
      const row = element('a', 'chain' + (chain.error_count ? ' failed' : ''));
      row.href = chainUrl('/chain', chain.trace_id);
      row.dataset.link = '';
      row.title = chain.trace_id;
      const entry = element('span', 'entry');
      entry.append(service(chain.entry_service), element('span', 'cut', chain.entry_action || (chain.entry_service ? '' : 'known from ' + chain.services.join(', '))));
      const meter = element('span', 'meter');
      const track = element('span', 'track');
      const fill = element('span', 'fill');
      fill.style.display = 'block';
      fill.style.width = Math.max(1, 100 * chain.duration_us / longest) + '%';
      track.append(fill);
      meter.append(element('span', 'value', took(chain.duration_us)), track);
      const records = element('span', 'quiet', chain.record_count.toLocaleString('en'));
      records.title = chain.services.join(', ');
      row.append(element('span', 'quiet', clock(chain.start_us)), entry, meter, records, badgesOf(chain));
      list.append(row);
    }

    const hadFocus = main.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
    main.replaceChildren(list);
    if (hadFocus) [...list.querySelectorAll('a')].find(row => row.getAttribute('href') === hadFocus)?.focus();
    const known = new Set(chains.flatMap(chain => chain.services));
    document.getElementById('services').replaceChildren(...[...known].sort().map(name => {
      const option = document.createElement('option');
      option.value = name;
      return option;
    }));
  }

  async function loadList() {
    const mine = turn;
    try {
      const text = await ask('/api/chains?' + listQuery());
      const counts = JSON.parse(await ask('/api/status'));
      if (mine !== turn) return;
      say(plural(counts.records, 'record', 'records') + ' · ' + plural(counts.chains, 'chain', 'chains'));
      const chains = JSON.parse(text).chains;
      const now = text + chains.filter(isArriving).length;
      if (now !== shown) {
        shown = now;
        drawList(chains);
      }
    } catch (problem) {
      if (mine !== turn) return;
      say(problem.message, true);
      if (!shown) main.replaceChildren(note('The chains cannot be read now', problem.message));
    }

    if (mine === turn) timer = setTimeout(() => document.hidden ? waitUntilSeen(loadList) : loadList(), refreshMillis);
  }

  function waitUntilSeen(next) {
    const mine = turn;
    document.addEventListener('visibilitychange', () => { if (mine === turn) next(); }, { once: true });
  }

  // ---- one chain

  const keyOf = (id, execution) => id + '#' + (execution || 0);

  // Placeholders have no time of their own: they span what stands below them.
  function spanRows(rows) {
    const above = [];
    for (const row of rows) {
      if (row.gap) continue;
      while (above.length && above[above.length - 1].depth >= row.depth) above.pop();
      row.from = row.start_us;
      row.to = row.start_us + (row.duration_us || 0);
      for (const side of [row.caller, row.callee]) {
        if (!side) continue;
        row.from = Math.min(row.from, side.start_us);
        row.to = Math.max(row.to, side.start_us + (side.duration_us || 0));
      }
      for (const parent of above) {
        parent.below = parent.below || { from: Infinity, to: -Infinity };
        parent.below.from = Math.min(parent.below.from, row.from);
        parent.below.to = Math.max(parent.below.to, row.to);
      }
      above.push(row);
    }

    for (const row of rows) {
      if (!row.placeholder || !row.below) continue;
      row.from = Math.min(row.from, row.below.from);
      row.to = Math.max(row.to, row.below.to);
    }
  }

  function bar(className, from, to, scale) {
    const made = element('span', 'bar ' + className);
    made.style.left = scale.at(from) + '%';
    made.style.width = Math.max(0, scale.at(to) - scale.at(from)) + '%';
    return made;
  }

  function nodeRow(row, scale) {
    const made = element('button', 'row' + (row.error ? ' failed' : '') + (row.placeholder ? ' placeholder' : ''));
    made.type = 'button';
    made.dataset.key = keyOf(row.rpc_id, row.execution);
    made.setAttribute('aria-expanded', 'false');
    made.style.setProperty('--depth', Math.min(row.depth, 24));
    const label = element('span', 'label');
    if (row.error) {
      const mark = element('span', 'mark', '✕');
      mark.title = 'failed';
      label.append(mark);
    }

    label.append(element('span', 'id mono', row.execution ? row.rpc_id + ' #' + row.execution : row.rpc_id), service(row.service));
    if (row.callee && row.caller && row.callee.service && row.callee.service !== row.service) {
      label.append(element('span', 'arrow', '→'), service(row.callee.service));
    } else if (row.caller && !row.callee && row.target && row.target !== row.service) {
      const target = element('span', 'target cut', '→ ' + row.target);
      target.title = 'called, and no record of its own';
      label.append(target);
    }

    const missing = row.foreign ? 'a service without LogTrace' : row.sampled ? 'left out on purpose (sampled)' : row.never_recorded ? 'never recorded: no logger there' : 'no record of this call';
    const text = row.placeholder ? missing : row.action || row.name || '';
    const action = element('span', 'action cut', text);
    action.title = [row.name, row.action].filter(Boolean).join('  ');
    label.append(action);
    if (row.callee_only) label.append(badge('caller’s record missing', 'loss'));
    if (row.callee_missing) label.append(badge('callee’s record missing', 'loss'));
    if (row.ambiguous) label.append(badge('ambiguous', 'loss', 'Several calls share this id and cannot be told apart'));
    if (row.irregular) label.append(badge('irregular', '', 'Numbered outside the counter of its scope'));
    if (row.events) label.append(badge(plural(row.events, 'line', 'lines')));

    const time = element('span', 'time');
    if (row.service) time.style.setProperty('--hue', hueOf(row.service).toFixed(0));
    if (row.placeholder) {
      time.append(bar('hollow', row.from, row.to, scale));
    } else if (row.caller && row.callee) {
      time.style.setProperty('--callee-hue', hueOf(row.callee.service || '').toFixed(0));
      time.append(bar('caller', row.caller.start_us, row.caller.start_us + (row.caller.duration_us || 0), scale));
      time.append(bar('callee', row.callee.start_us, row.callee.start_us + (row.callee.duration_us || 0), scale));
    } else {
      const side = row.caller || row.callee;
      time.append(side ? bar('alone', side.start_us, side.start_us + (side.duration_us || 0), scale) : bar('event', row.from, row.to, scale));
    }

    if (row.critical) time.append(bar('critical', row.from, row.to, scale));

    if (!row.placeholder && row.duration_us !== null && row.duration_us !== undefined) {
      const length = element('span', 'took', took(row.duration_us));
      length.style.left = scale.at(row.to) + '%';
      time.append(length);
    }

    if (row.caller && row.callee) {
      time.title = (row.caller.service || 'caller') + ' ' + took(row.caller.duration_us) + ', ' + (row.callee.service || 'callee') + ' ' + took(row.callee.duration_us);
    }

    made.append(label, time);
    if (row.critical) made.append(element('span', 'unseen', 'on the critical path'));
    return made;
  }

  function gapRow(row) {
    const made = element('div', 'row gap');
    made.style.setProperty('--depth', Math.min(row.depth, 24));
    const label = element('span', 'label');
    label.append(element('span', 'id mono', row.gap), element('span', 'cut', plural(row.count, 'number without a record', 'numbers without a record') + (row.service ? ' in ' + row.service : '')));
    made.append(label, element('span', 'time ticks'));
    return made;
  }

  const fieldOrder = ['action', 'param', 'code', 'msg', 'backtrace', 'extra', 'host', 'instance_name', 'db', 'response', 'response_length', 'dns_duration_us', 'uid', 'client_ip',
    'user_agent', 'source', 'department', 'module', 'version', 'server_ip', 'pid', 'file', 'line', 'level', 'span_id', 'parent_span_id', 'unreadable', 'missing', 'position'];

  function logLine(record, start) {
    const made = element('div', 'log' + (record.error ? ' failed' : ''));
    const at = element('span', 'at', '+' + took(Math.max(0, record.time_us - start)));
    at.title = clock(record.time_us, true);
    const kind = element('span', 'kind mono', record.name || 'no name');
    kind.title = [record.level, record.rpc_id].filter(Boolean).join('  ');
    const isLog = !record.name || record.name.startsWith('log.') || record.name.startsWith('metric.');
    const message = isLog ? record.msg || [record.action, record.extra].filter(Boolean).join(' ') : record.action || record.msg;
    made.append(at, kind, element('span', 'message', message || ''));
    const more = element('details', 'more');
    const summary = element('summary', '', (record.service || 'unknown service') + (record.rpc_id ? ' · ' + record.rpc_id : '') + (record.duration_us !== undefined ? ' · ' + took(record.duration_us) : ''));
    more.append(summary);
    more.addEventListener('toggle', () => {
      if (!more.open || more.children.length > 1) return;
      const fields = element('dl', 'fields mono');
      for (const name of fieldOrder) {
        if (record[name] === undefined) continue;
        fields.append(element('dt', '', name), element('dd', '', record[name]));
      }
      more.append(fields);
    });
    made.append(more);
    return made;
  }

  function toggle(row, chain, force) {
    const key = row.dataset.key;
    const isOpen = row.getAttribute('aria-expanded') === 'true';
    const open = force === undefined ? !isOpen : force;
    if (open === isOpen) return;
    row.setAttribute('aria-expanded', String(open));
    if (!open) {
      expanded.delete(key);
      row.nextElementSibling?.remove();
      return;
    }

    expanded.add(key);
    const logs = element('div', 'logs');
    logs.style.setProperty('--depth', row.style.getPropertyValue('--depth'));
    const records = chain.byNode.get(key) || [];
    const node = chain.rowOf.get(key);
    if (node && node.self_us !== undefined) {
      const network = node.caller && node.callee && node.caller.duration_us >= node.callee.duration_us && node.callee.duration_us !== null ? node.caller.duration_us - node.callee.duration_us : null;
      logs.append(element('div', 'times', 'self time ' + took(node.self_us) + (network === null ? '' : ' · network and waiting ' + took(network)) + (node.critical ? ' · on the critical path' : '')));
    }

    logs.append(...(records.length
      ? records.map(record => logLine(record, chain.start_us))
      : [element('span', 'quiet', 'No record of this call has arrived: it is known from the ids of the calls below it.')]));
    row.after(logs);
  }

  function drawChain(chain) {
    chain.byNode = new Map();
    for (const record of chain.records) {
      const key = keyOf(record.node, record.execution);
      if (!chain.byNode.has(key)) chain.byNode.set(key, []);
      chain.byNode.get(key).push(record);
    }
    for (const records of chain.byNode.values()) records.sort((a, b) => a.time_us - b.time_us);
    spanRows(chain.rows);
    const nodes = chain.rows.filter(row => !row.gap);
    chain.rowOf = new Map(nodes.map(row => [keyOf(row.rpc_id, row.execution), row]));
    // Where clocks of hosts differ the rows' times are corrected, and the chain's own are not.
    const clocks = nodes.reduce((most, row) => Math.max(most, Math.abs(row.clock_us || 0)), 0);
    let from = clocks ? Infinity : chain.start_us;
    let to = clocks ? -Infinity : chain.start_us + chain.duration_us;
    for (const row of clocks ? nodes : nodes.slice(0, 1)) from = Math.min(from, row.from);
    for (const row of nodes) to = Math.max(to, row.to);
    const length = Math.max(1, to - from);
    const scale = { at: micros => 100 * Math.min(1, Math.max(0, (micros - from) / length)) };

    const top = chain.rows.find(row => !row.gap) || {};
    document.title = [top.callee?.service || top.service, top.action].filter(Boolean).join(' ') + ' – LogTrace';
    const summary = element('section', 'summary');
    const title = element('h1', '', [top.callee?.service || top.service, top.action].filter(Boolean).join(' ') || chain.trace_id);
    const tools = element('span', 'tools');
    const showAll = element('button', '', 'Show all lines');
    showAll.type = 'button';
    tools.append(showAll);
    const showPath = element('button', 'path', 'Critical path');
    showPath.type = 'button';
    showPath.title = 'Underlined calls are those that the whole had to wait for: from the end backwards, always the call that ended last';
    showPath.setAttribute('aria-pressed', String(isPathShown));
    if (nodes.some(row => row.critical)) tools.append(showPath);
    const facts = element('div', 'facts');
    const fact = (name, value) => {
      const made = element('span', '', name + ' ');
      made.append(element('b', '', value));
      facts.append(made);
    };
    fact('', took(chain.duration_us));
    fact('started', clock(chain.start_us, true));
    fact('services', new Set(chain.records.map(record => record.service).filter(Boolean)).size);
    fact('records', chain.record_count.toLocaleString('en'));
    if (clocks) fact('clocks differ, times corrected by up to', took(clocks));
    const id = element('span', '', 'trace ');
    id.append(element('b', 'mono', chain.trace_id));
    facts.append(id);
    const badges = element('span', 'badges');
    const failed = nodes.filter(row => row.error).length;
    if (failed) badges.append(badge('✕ ' + plural(failed, 'failed call', 'failed calls'), 'error'));
    badges.append(chain.complete ? badge('complete', 'ok', 'No record is known to be missing') : badge(lossText(chain), 'loss'));
    if (!chain.resolved) badges.append(badge(plural(chain.ambiguous_count, 'ambiguous id', 'ambiguous ids'), 'loss'));
    summary.append(title, badges, tools, facts);

    const waterfall = element('section', 'waterfall');
    waterfall.setAttribute('aria-label', 'Calls of the chain');
    const axis = element('div', 'row axis');
    axis.style.setProperty('--depth', 0);
    const ticks = element('span', 'time ticks');
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const tick = element('span', 'tick', took(Math.round(length * share)));
      tick.style.left = 100 * share + '%';
      ticks.append(tick);
    }
    axis.append(element('span', 'label', 'call'), ticks);
    waterfall.append(axis);

    waterfall.classList.toggle('without-path', !isPathShown);
    showPath.addEventListener('click', () => {
      isPathShown = !isPathShown;
      showPath.setAttribute('aria-pressed', String(isPathShown));
      waterfall.classList.toggle('without-path', !isPathShown);
    });

    let drawn = 0;
    const drawMore = () => {
      const rows = chain.rows.slice(drawn, drawn + rowsAtOnce);
      drawn += rows.length;
      waterfall.append(...rows.map(row => row.gap ? gapRow(row) : nodeRow(row, scale)));
      if (drawn < chain.rows.length) {
        const more = element('button', 'more-rows', plural(chain.rows.length - drawn, 'further row', 'further rows'));
        more.type = 'button';
        more.addEventListener('click', () => { more.remove(); drawMore(); });
        waterfall.append(more);
      } else if (chain.rows_total > chain.rows.length) {
        waterfall.append(element('div', 'note', plural(chain.rows_total - chain.rows.length, 'further row is', 'further rows are') + ' not drawn here; ./logtrace chain shows them all.'));
      }
    };
    drawMore();
    waterfall.addEventListener('click', event => {
      const row = event.target.closest('button.row');
      if (row) toggle(row, chain);
    });
    waterfall.addEventListener('keydown', event => {
      if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
      const row = event.target.closest('button.row');
      if (!row) return;
      const rows = [...waterfall.querySelectorAll('button.row')];
      rows[rows.indexOf(row) + (event.key === 'ArrowDown' ? 1 : -1)]?.focus();
      event.preventDefault();
    });
    let allOpen = false;
    showAll.addEventListener('click', () => {
      allOpen = !allOpen;
      showAll.textContent = allOpen ? 'Hide lines' : 'Show all lines';
      for (const row of waterfall.querySelectorAll('button.row')) if (!allOpen || chain.byNode.has(row.dataset.key)) toggle(row, chain, allOpen);
    });
    main.replaceChildren(summary, waterfall);
    const open = expanded;
    expanded = new Set();
    for (const row of waterfall.querySelectorAll('button.row')) if (open.has(row.dataset.key)) toggle(row, chain, true);
  }

  async function loadChain(id) {
    const mine = turn;
    try {
      const text = await ask(chainUrl('/api/chains', id));
      if (mine !== turn) return;
      say('');
      const chain = JSON.parse(text);
      if (text !== shown) {
        shown = text;
        drawChain(chain);
      }

      // Late records still come: look again while the trace is young.
      const newest = Math.max(...chain.records.map(record => record.time_us), 0) / 1000;
      if (Date.now() - newest < 60000) timer = setTimeout(() => loadChain(id), refreshMillis);
    } catch (problem) {
      if (mine !== turn) return;
      if (!shown) {
        main.replaceChildren(note('This chain cannot be shown', problem.message));
        timer = setTimeout(() => loadChain(id), refreshMillis);
      } else {
        say(problem.message, true);
      }
    }
  }

  // ---- pages

  function route() {
    clearTimeout(timer);
    turn++;
    shown = '';
    expanded = new Set();
    say('');
    const id = idOfPage();
    if (id) {
      loadChain(id);
    } else {
      document.title = 'LogTrace';
      const query = new URLSearchParams(location.search);
      for (const name of ['text', 'service']) inputs[name].value = query.get(name) || '';
      for (const name of ['errors', 'incomplete']) inputs[name].checked = query.get(name) === '1';
      loadList();
    }
    scrollTo(0, 0);
  }

  function go(url) {
    history.pushState(null, '', url);
    route();
  }

  document.addEventListener('click', event => {
    const link = event.target.closest('a[data-link]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(link.getAttribute('href'));
  });

  let typing = 0;
  filters.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => go('/' + (listQuery().size ? '?' + listQuery() : '')), 250);
  });
  filters.addEventListener('submit', event => {
    event.preventDefault();
    clearTimeout(typing);
    go('/' + (listQuery().size ? '?' + listQuery() : ''));
  });

  document.addEventListener('keydown', event => {
    if (event.target.matches('input')) return;
    if (event.key === '/') {
      event.preventDefault();
      inputs.text.focus();
    } else if (event.key === 'Escape' && idOfPage()) {
      go('/');
    }
  });

  addEventListener('popstate', route);
  route();
})();
