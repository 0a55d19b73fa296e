// Fleet: how many devices there are and what they run, and a search among them.

import { get, list as read, query, path, throttle } from '../api.js'
import { h, fill, name, link, section, table } from '../dom.js'
import { count, many, share, when, outcome } from '../format.js'
import { pager, selectorForm, selectorQuery, steady } from '../parts.js'
import { rolloutOf } from '../rollouts.js'
import { recent, refusalTable, status } from '../status.js'

export const title = 'Fleet'

const shownCounts = 8 // versions and models before "show all"
const shownRefusals = 3

// deviceState shows whether a device can be reached.
export function deviceState(d) {
  const state = d.state ?? (d.online ? 'registered' : d.registered ? 'silent' : 'not_registered')
  return outcome(state)
}

export async function show(context) {
  const { root, query: asked, signal } = context
  const bars = h('div', { class: 'columns' })
  const refused = refusedPart(asked.has('refused'))
  const list = h('div')
  fill(root, !asked.has('refused') && bars, refused.element, list)

  const counts = async () => {
    const [fleet, active, yours, now] = await Promise.all([
      get('fleet', { signal }), get('counts', { signal }),
      get(`updates${query({ outcome: [''], whose: 'operator', limit: 50 })}`, { signal }).catch(() => ({ items: [] })), status(),
    ])
    showSentence(context, fleet, active.items, yours, now)
    refused.show(now?.refusals ?? [])
    if (fleet.devices > 0) showBars(context, bars, fleet)
    if (asked.has('refused')) return
    if (fleet.devices === 0) firstDevice(list)
    else if (!drawn) {
      drawn = true
      await devices.first()
    }
  }
  let drawn = false
  const devices = deviceList(context, list)
  const again = throttle(counts, 2000)
  context.live({ kinds: 'device' }, { counts: true, begun: () => { again(); devices.again() }, event: () => { again(); devices.again() } })
  await counts()
  const timer = setInterval(() => { if (!document.hidden) again() }, 10_000) // no event says that one was refused
  signal.addEventListener('abort', () => clearInterval(timer))
}

// refusedPart shows whom the server has refused: the latest ones, or all.
function refusedPart(all) {
  const shown = refusalTable()
  const more = h('p')
  const element = section('Refused by this server', shown, more)
  element.hidden = true
  return {
    element,
    show: (refusals) => {
      const some = all ? refusals : recent(refusals).slice(0, shownRefusals)
      shown.show(some)
      shown.hidden = some.length === 0
      element.hidden = !all && some.length === 0
      fill(more, all ? [refusals.length === 0 && 'None since its start. ', link('#/fleet', 'Show the devices')]
        : refusals.length > some.length && link('#/fleet?refused=all', `Show all ${count(refusals.length)}`))
    },
  }
}

function showSentence({ sentence }, fleet, items, yours, now) {
  const trouble = troubleSentence(now)
  if (fleet.devices === 0) {
    sentence('No device has registered yet.', trouble)
    return
  }
  const active = items.filter((c) => c.outcome === '').reduce((sum, c) => sum + c.updates, 0)
  const waits = yours.items.filter((u) => !rolloutOf(u)).length // what a rollout holds waits for the rollout
  sentence(
    active === 0 ? `None of ${many(fleet.devices, 'device')} is updating` : [link('#/updates?outcome=active', `${count(active)} of ${many(fleet.devices, 'device')}`), active === 1 ? ' is updating' : ' are updating'],
    waits > 0 ? ['; ', link('#/updates?outcome=active&whose=operator', `${waits}${yours.next ? ' or more' : ''} ${waits === 1 ? 'waits' : 'wait'} for you`)] : '',
    '. ', silentSentence(fleet.states), trouble)
}

// troubleSentence says what an operator should look at, beside devices.
function troubleSentence(now) {
  const paused = now?.rollouts?.paused ?? 0
  const refused = recent(now?.refusals ?? []).length
  return [
    paused > 0 && [' ', link('#/rollouts', many(paused, 'rollout is paused', 'rollouts are paused')), '.'],
    refused > 0 && [' ', link('#/fleet?refused=all', many(refused, 'was refused', 'were refused')), ' in the last hour.'],
  ]
}

function silentSentence(s) {
  if (s.silent === 0 && s.not_registered === 0) return 'All can be reached or are asleep.'
  return [s.silent > 0 && `${many(s.silent, 'device does', 'devices do')} not answer`, s.not_registered > 0 && `${many(s.not_registered, 'is', 'are')} not registered`].filter(Boolean).join(', ') + '.'
}

function showBars({ query: asked, go }, element, fleet) {
  const all = asked.get('all')
  const rows = (entries) => h('ul', { class: 'counts' }, entries)
  const row = (label, n, kind) => h('li', null, h('span', null, label), h('progress', { max: String(fleet.devices || 1), value: String(n), class: kind && `out-${kind}`, 'aria-hidden': 'true' }), h('span', { class: 'figure' }, `${count(n)}, ${share(n, fleet.devices)}`))
  const of = (what, list, more) => {
    const some = all ? list : list.slice(0, shownCounts)
    return [
      ...some.map((c) => row(c[what] === null ? h('span', { class: 'muted' }, 'not known') : link(`#/fleet${query({ [what]: c[what] })}`, name(c[what])), c.devices)),
      list.length > some.length && h('li', null, h('button', { type: 'button', class: 'quiet', onclick: () => go({ all: '1' }, true) }, `Show all ${count(list.length)}`)),
      more > 0 && h('li', null, h('span', { class: 'muted' }, 'others'), h('span'), h('span', { class: 'figure' }, count(more))),
    ]
  }
  const focused = document.activeElement?.getAttribute('href')
  fill(element,
    section('Now', rows(Object.entries(fleet.states).map(([state, n]) => row(n > 0 ? link(`#/fleet${query({ state })}`, outcome(state)) : outcome(state), n, state)))),
    section('Versions', rows(of('version', fleet.versions, fleet.more_versions))),
    section('Models', rows(of('model', fleet.models, fleet.more_models))))
  if (focused && !document.activeElement?.closest('main')) [...element.querySelectorAll('a')].find((a) => a.getAttribute('href') === focused)?.focus()
}

function firstDevice(element) {
  fill(element, section('The first device',
    h('p', null, 'A device appears here when it registers with this server by LwM2M. The example client does so:'),
    h('pre', null, 'go run github.com/otago-iot/otago/examples/client -server coap://127.0.0.1:5683 -endpoint urn:dev:1')))
}

function deviceList(context, element) {
  const { query: asked, signal } = context
  const parameters = selectorQuery(asked)
  const filtered = Object.keys(parameters).length > 0
  const shown = table([
    { title: 'Device', cell: (d) => link(`#/${path('devices', d.endpoint)}`, name(d.endpoint)) },
    { title: 'State', cell: (d) => (d.damaged ? `its record is damaged: ${d.damaged}` : deviceState(d)) },
    { title: 'Version', cell: (d) => known(d.firmware?.version) },
    { title: 'Model', cell: (d) => known(d.facts?.model) },
    { title: 'Labels', cell: (d) => Object.entries(d.labels ?? {}).map(([k, v], i) => [i > 0 && ', ', name(`${k}=${v}`)]) },
    { title: 'Last seen', class: 'nowrap', of: (d) => d.last_seen, cell: (d) => when(d.last_seen) },
  ], { key: (d) => d.endpoint, href: (d) => `#/${path('devices', d.endpoint)}`, label: 'Devices' })
  const found = h('p', { class: 'note' })
  const pages = h('div')
  const rows = steady(shown.show, (d) => d.endpoint, (page) => {
    fill(found, page.items.length === 0 ? (page.next ? 'None of these; there are more to look through.' : 'No device fits.') : '')
    pager(context, pages, page)
  })
  const load = () => read('devices', { ...parameters, cursor: asked.get('cursor') }, { signal })
  let drawn = false
  return {
    again: throttle(async () => drawn && rows.merge(await load()), 3000),
    first: async () => {
      rows.put(await load())
      fill(element, section('Devices', selectorForm(context, filtered), filtered && h('p', null, link('#/fleet', 'Show all devices')), rows.news, shown, found, pages))
      drawn = true
    },
  }
}

function known(value) {
  return value === null || value === undefined ? h('span', { class: 'muted' }, 'not known') : name(value)
}
