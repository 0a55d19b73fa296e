// Rollout: why it stands where it stands, its stages, its members, what failed, its journal, and the
// orders that it takes, each with its effect.

import { get, send, path, query, throttle } from '../api.js'
import { h, fill, keyed, name, link, section, facts, table } from '../dom.js'
import { count, many, outcome, stack, until, utc, when, words } from '../format.js'
import { limitsForm } from '../limits.js'
import { confirm, pager } from '../parts.js'
import { remedyOf } from '../remedies.js'
import { imageName, memberParts } from '../rollouts.js'

export const title = 'Rollout'

const journalLines = 100 // the newest ones, before "show more"

export async function show(context) {
  const { root, params, signal } = context
  const at = path('rollouts', params.id)
  const parts = {
    acts: h('div', { class: 'orders' }), stages: h('ol', { class: 'stages' }), now: h('div'), failures: h('div'), facts: h('div'), edit: h('div'),
    journal: h('ol', { class: 'journal' }), older: h('div'),
  }
  const members = memberList(context, at)
  let lines = journalLines
  let rollout

  const load = async () => {
    const [r, failures] = await Promise.all([get(at, { signal }), get(`${at}/failures`, { signal })])
    const from = Math.max(0, r.lines - lines)
    const journal = await get(`${at}/events${query({ after: from, limit: Math.min(1000, lines) })}`, { signal })
    rollout = r
    showTop(context, r)
    showOrders(parts.acts, r, order)
    parts.stages.update(r)
    fill(parts.now, nowOf(r))
    parts.failures.update(failures)
    showFacts(parts.facts, r, signal)
    parts.edit.update(r)
    keyed(parts.journal, journal.items.toReversed(), (e) => e.seq, line)
    fill(parts.older, from > 0 && h('button', {
      type: 'button', class: 'quiet',
      onclick: (e) => { lines = Math.min(1000, lines * 10); context.act(e.target, load) },
    }, `Show earlier lines (${count(from)})`))
  }
  parts.stages.update = (r) => keyed(parts.stages, r.stages.map((s, i) => ({ ...s, number: i + 1 })), (s) => s.number, (s) => stageItem(s, () => rollout))
  parts.failures.update = (f) => {
    const state = JSON.stringify(f)
    if (parts.failures.state === state) return
    parts.failures.state = state
    fill(parts.failures, failureList(f, params.id))
  }
  parts.edit.update = (r) => {
    const may = r.state !== 'ended'
    if (!may) fill(parts.edit)
    else if (!parts.edit.firstChild) fill(parts.edit, limitsForm(context, r, at, changed))
  }

  // changed shows what an order has done at once: the answer has it.
  const changed = async () => {
    await load()
    await members.load()
  }

  const order = (button, o) => context.act(button, async () => {
    const body = {}
    if (o.mode) body.mode = o.mode
    if (o.outcomes) body.outcomes = o.outcomes
    const reason = reasonField.value.trim()
    if (reason) body.reason = reason
    if (o.order === 'delete') {
      if (!(await confirm('Delete this rollout?', sentenceOf(o.effect), 'Delete it', 'danger'))) return
      await send('DELETE', at, undefined, { signal })
      location.hash = '#/rollouts?show=all'
      return
    }
    if (o.order === 'stop' && !(await confirm('Stop this rollout?', sentenceOf(o.effect), orderWord(o), 'danger'))) return
    await send('POST', `${at}/${o.order}`, body, { signal })
    reasonField.value = ''
    await changed()
  })
  const reasonField = h('input', { id: 'order-reason', maxlength: '1000', placeholder: 'why, for the journal' })
  const ordersSection = section('Orders', parts.acts, h('div', { class: 'field' }, h('label', { for: 'order-reason' }, 'Reason (optional)'), reasonField))

  await load()
  fill(root, parts.now, ordersSection, parts.failures, section('Stages', parts.stages), section('Devices', members.element),
    section('Journal', parts.journal, parts.older), section('What was asked for', parts.facts, parts.edit))
  await members.load()
  const again = throttle(load, 900)
  const membersAgain = throttle(members.load, 3000)
  context.live({ kinds: 'rollout', rollout: params.id }, {
    begun: again,
    event: (data, type) => {
      if (type === 'rollout' && data.deleted) {
        context.sentence('This rollout was deleted.')
        fill(root, h('p', null, link('#/rollouts', 'All rollouts')))
        return
      }
      again()
      membersAgain()
    },
  })
}

function sentenceOf(effect) {
  return `${effect[0].toUpperCase()}${effect.slice(1)}.`
}

function showTop({ heading, sentence }, r) {
  heading(link('#/rollouts', 'Rollouts'), ' / ', name(r.name || r.id))
  const reason = r.reason ? sentenceOf(r.reason) : ''
  sentence(outcome(r.state), ' ', name(reason), ' ',
    r.until && (r.until === r.end_at ? ['If nothing changes, it ends ', until(r.until), '.'] : ['That holds until ', h('span', { class: 'nowrap' }, utc(r.until)), ', ', until(r.until), '.']))
}

const orderWords = { start: 'Start', pause: 'Pause', resume: 'Resume', open: 'Open the next stage', stop: 'Stop', retry: 'Retry', delete: 'Delete' }

function orderWord(o) {
  return o.order === 'stop' && o.mode === 'cancel' ? 'Stop and cancel' : orderWords[o.order] ?? o.order
}

function showOrders(element, r, order) {
  if (r.orders.length === 0) {
    fill(element, h('p', { class: 'note' }, 'It takes no order now: it ends by itself when the updates that run have ended.'))
    return
  }
  // To stop and cancel is another order only while something runs that it would cancel.
  const orders = r.orders.filter((o) => o.mode !== 'cancel' || !r.orders.some((other) => other.order === o.order && other.mode !== o.mode && other.effect === o.effect))
  keyed(element, orders, (o) => `${o.order} ${o.mode ?? ''} ${o.outcomes ?? ''}`, (first) => {
    const effect = h('span', { class: 'effect' })
    const danger = first.order === 'stop' || first.order === 'delete'
    let now = first
    const button = h('button', { type: 'button', class: danger ? 'danger' : null, onclick: (e) => order(e.currentTarget, now) },
      h('b', null, orderWord(first)), ': ', effect)
    const item = h('div', null, button)
    item.update = (o) => {
      now = o
      if (effect.textContent !== o.effect) effect.textContent = o.effect
    }
    return item
  })
}

// nowOf says what the active members do, and why the others wait.
function nowOf(r) {
  const doing = [
    ['transferring', r.places.transferring], ['ready to install', r.places.ready], ['installing', r.places.installing], ['away', r.places.away],
    ['silent for too long after Execute', r.places.missing],
  ].filter(([, n]) => n > 0)
  const waiting = Object.entries(r.waiting?.reasons ?? {}).toSorted((a, b) => b[1] - a[1])
  const all = Object.values(r.members).reduce((a, b) => a + b, 0)
  return [
    stack(memberParts(r.members), all),
    (doing.length > 0 || waiting.length > 0) && facts(
      doing.length > 0 && ['On their way', doing.map(([word, n], i) => `${i > 0 ? ', ' : ''}${count(n)} ${word}`)],
      waiting.length > 0 && ['Waiting', [
        waiting.map(([why, n], i) => [i > 0 && ', ', link(`#/rollouts/${r.id}?reason=${why}`, `${count(n)} ${reasons[why] ?? words(why)}`)]),
        r.members.waiting > r.waiting.examined && ` (of the first ${count(r.waiting.examined)} of ${count(r.members.waiting)})`,
      ]],
    ),
  ]
}

// reasons are what waiting members wait for, in words.
const reasons = {
  not_started: 'for the start of the rollout', stage: 'for the next stage', gate: 'for an operator to open the next stage', paused: 'for resume',
  window: 'for the window', rate: 'for their turn by the rate', concurrency: 'for a place', offline: 'until they register',
  asleep: 'until they are heard', busy: 'for the end of another update', retry: 'a minute after a failed try',
}

const skips = {
  already_current: 'runs the version already', incompatible: 'the image is not made for it', not_comparable: 'its version cannot be compared',
  removed: 'was removed', cancelled: 'was cancelled', unreachable: 'was not reached in time',
}

function stageItem(first, whole) {
  const head = h('span')
  const bars = h('div')
  const item = h('li', { class: 'stage' }, head, bars)
  let shown
  item.update = (s) => {
    const r = whole()
    const before = s.number > 1 ? r.stages[s.number - 2].ceiling : 0
    const room = Math.max(s.ceiling - before, s.admitted + s.skipped)
    const open = r.stage === s.number && r.state !== 'ended'
    const state = JSON.stringify([s, open, room])
    if (state === shown) return
    shown = state
    item.classList.toggle('open', open)
    fill(head, h('b', null, `Stage ${s.number}`), open && h('span', { class: 'chip' }, 'open'),
      h('span', { class: 'note' }, [
        `${count(s.admitted)} of ${many(room, 'device')}${s.number > 1 ? ` (${count(s.ceiling)} in all)` : ''}`,
        s.only && onlyText(s.only), s.manual && 'opened by an operator', s.soak !== '0s' && `watched for ${s.soak}`,
      ].filter(Boolean).join(', '), s.opened && [', opened ', when(s.opened)]))
    fill(bars, stack(memberParts(s), room))
  }
  item.update(first)
  return item
}

function onlyText(only) {
  const labels = Object.entries(only.labels ?? {}).map(([k, v]) => `${k}=${v}`)
  return `only ${[only.endpoints?.length && many(only.endpoints.length, 'named device'), labels.length > 0 && `devices with ${labels.join(' and ')}`].filter(Boolean).join(' or ')}`
}

function failureList(f, id) {
  if (f.devices === 0) return null
  const list = table([
    { title: 'Outcome', cell: (g) => (g.outcome ? outcome(g.outcome) : 'its update was deleted') },
    { title: 'Result', cell: (g) => [words(g.result), g.reason && h('span', { class: 'note' }, ` ${words(g.reason)}`)] },
    { title: 'While', cell: (g) => words(g.phase) },
    { title: 'Devices', class: 'figure', cell: (g) => count(g.devices) },
    { title: 'What to do', cell: remedyOf },
    { title: 'For example', cell: (g) => g.examples.map((e, i) => [i > 0 && ', ', link(`#/updates/${e.update}`, name(e.endpoint))]) },
  ], { key: (g) => [g.outcome, g.result, g.reason, g.phase].join(' '), label: 'Failures by result and phase' })
  list.show(f.groups)
  return section('What went wrong', h('p', null, link(`#/rollouts/${id}?state=failed`, many(f.devices, 'device')), ' failed, timed out or rolled back', f.examined < f.devices && `; the first ${count(f.examined)} of them`, '.'), list)
}

const memberStates = [['', 'All'], ['waiting', 'Waiting'], ['active', 'Active'], ['succeeded', 'Succeeded'], ['failed', 'Failed'], ['rolled_back', 'Rolled back'], ['skipped', 'Skipped']]

// memberList shows members, by the state or the reason in the address, and adds one.
function memberList(context, at) {
  const { query: asked, params, signal } = context
  const reason = asked.get('reason')
  const state = asked.get('state') ?? ''
  const shown = table([
    { title: 'Device', cell: (m) => link(`#/${path('devices', m.endpoint)}`, name(m.endpoint)) },
    { title: 'State', of: (m) => [m.state, m.place, m.damaged, m.missing], cell: (m) => (m.damaged ? `its record is damaged: ${m.damaged}` : [outcome(m.state), m.place && ` ${words(m.place)}`, m.missing && ', silent']) },
    { title: 'Why', of: (m) => [m.reason, m.detail, m.until, m.later], cell: why },
    { title: 'Stage', class: 'figure', of: (m) => m.stage, cell: (m) => (m.stage > 0 ? String(m.stage) : '') },
    { title: 'Update', class: 'nowrap', of: (m) => m.update, cell: (m) => m.update && link(`#/updates/${m.update}`, `${m.update.slice(0, 10)}…`) },
  ], { key: (m) => m.endpoint, href: (m) => (m.update ? `#/updates/${m.update}` : `#/${path('devices', m.endpoint)}`), label: 'Devices of the rollout' })
  const none = h('p', { class: 'note' })
  const pages = h('div')
  const add = h('input', { id: 'add-device', maxlength: '255', spellcheck: 'false', autocapitalize: 'off' })
  const addForm = h('form', {
    class: 'fields',
    onsubmit: (e) => {
      e.preventDefault()
      context.act(e.submitter, async () => {
        await send('POST', `${at}/members`, { endpoint: add.value.trim() }, { signal })
        add.value = ''
        await load()
      })
    },
  }, h('div', null, h('label', { for: 'add-device' }, 'Add a device by its name'), add), h('div', null, h('button', { type: 'submit' }, 'Add: it waits for its turn')))
  const load = async () => {
    const page = await get(`${at}/members${query({ limit: 50, cursor: asked.get('cursor'), state, reason })}`, { signal })
    shown.show(page.items)
    none.textContent = page.items.length > 0 ? '' : page.next ? 'None of these; there are more to look through.' : 'No device.'
    pager(context, pages, page)
  }
  return {
    load,
    element: [
      h('nav', { class: 'filters', 'aria-label': 'Which devices' }, memberStates.map(([value, word]) => h('a', {
        href: `#/rollouts/${params.id}${query({ state: value })}`, 'aria-current': state === value && !reason ? 'true' : null,
      }, word)), reason && h('a', { href: `#/rollouts/${params.id}`, 'aria-current': 'true' }, `${reasons[reason] ?? skips[reason] ?? words(reason)} ✕`)),
      shown, none, pages, addForm,
    ],
  }
}

function why(m) {
  const text = m.state === 'skipped' ? skips[m.reason] : m.state === 'failed' || m.state === 'rolled_back' ? `${words(m.reason)}, ${words(m.detail)}` : m.reason ? `waits ${(reasons[m.reason] ?? words(m.reason)).replace('they register', 'it registers').replace('they are', 'it is').replace('their', 'its')}` : ''
  return [
    text ?? words(m.reason), m.reason === 'busy' && m.detail && [': ', link(`#/updates/${m.detail}`, `update ${m.detail.slice(0, 10)}…`)], m.reason === 'retry' && [': ', name(m.detail)],
    m.until && [', ', until(m.until)], m.later && [', later showed ', name(m.later.version)],
  ]
}

function line(e) {
  return h('li', { class: e.actor ? 'server' : 'device' }, when(e.time), h('div', { class: 'said' },
    h('span', { class: 'event' }, words(e.event)), e.detail && [' ', name(e.detail)], e.endpoint && [' ', link(`#/${path('devices', e.endpoint)}`, name(e.endpoint))],
    e.actor && !e.detail.startsWith('by ') && h('span', { class: 'whose' }, [' by ', name(e.actor)])))
}

function showFacts(element, r, signal) {
  const selector = r.select && Object.entries(r.select).flatMap(([k, v]) => (k === 'labels' ? Object.entries(v).map(([l, x]) => `${l}=${x}`) : [`${words(k)} ${v === true ? '' : v}`.trim()]))
  const state = JSON.stringify([r.image, r.select, r.concurrency, r.rate, r.max_failure, r.window, r.start_at, r.end_at, r.notes, r.update, r.downgrade])
  if (element.state === state) return
  element.state = state
  fill(element, facts(
    ['Image', imageName(r.image, signal)],
    ['Devices', r.select ? (selector.length > 0 ? name(`with ${selector.join(', ')}`) : 'all that the server knew') : 'a list of names'],
    ['At a time', `${count(r.concurrency)} transfer, ${count(r.concurrency)} install`],
    ['Rate', r.rate ? `${r.rate} a minute` : 'no limit'],
    ['Pauses above', `${Math.round(r.max_failure * 1e4) / 100} % bad`],
    ['Silent is bad', `after ${r.missing_after}`],
    ['Window', r.window ? windowText(r.window) : 'always'],
    r.start_at && ['Starts', [utc(r.start_at)]],
    ['Ends', [utc(r.end_at)]],
    ['Downgrade', r.downgrade ? 'yes' : 'no'],
    ['Updates', updateText(r.update)],
    r.notes && ['Notes', name(r.notes, { class: 'name lines' })],
    ['Id', h('code', null, r.id)],
    ['Created', when(r.created)],
  ))
}

export function windowText(w) {
  return `${w.from} to ${w.to}, ${w.zone === 'device' ? `clock of each device, else ${w.fallback_zone}` : w.zone}${w.days?.length ? `, ${w.days.join(' ')}` : ''}${w.covers === 'all' ? ', for downloads too' : ''}`
}

function updateText(u) {
  if (!u) return ''
  const labels = Object.entries(u.labels ?? {}).map(([k, v]) => `${k}=${v}`)
  return name([`delivery ${u.delivery}`, u.protocol && u.protocol !== 'auto' && u.protocol, u.verify && `verify ${u.verify}`, u.deadline && `deadline ${u.deadline}`, u.attempts > 0 && `${u.attempts} attempts`,
    u.force && 'forced', u.profile && `profile ${u.profile}`, ...labels].filter(Boolean).join(', '))
}
