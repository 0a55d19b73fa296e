// Device: what is known of it, what it runs, its updates, and what it says when it is asked.

import { get, path, query, send, throttle } from '../api.js'
import { h, fill, facts, link, name, section } from '../dom.js'
import { many, span, when, words } from '../format.js'
import { journal } from '../journal.js'
import { address, confirm, imageName } from '../parts.js'
import { resources } from '../resources.js'
import { refusalsOf, refusedSentence, status } from '../status.js'
import { trace } from '../trace.js'
import { deviceState } from './fleet.js'
import { updateTable } from './updates.js'

export const title = 'Device'

export async function show(context) {
  const { root, params, signal, heading } = context
  const endpoint = params.endpoint
  const at = path('devices', endpoint)
  heading('Device ', name(endpoint))
  const refused = h('div')
  const known = h('div')
  const labels = h('div')
  const form = h('div')
  const busy = h('p', { class: 'note' })
  const list = updateTable('Updates of this device', ['Device'])
  const past = h('div')
  const lines = journal()
  const timeline = section('Journal of the last update', lines.element)
  let device
  let updates = []

  const load = async () => {
    const [d, page, now] = await Promise.all([get(at, { signal }).catch(unknown), get(`updates${query({ endpoint, limit: 20 })}`, { signal }), status()])
    device = d
    updates = page.items
    fill(refused, refusedSentence(refusalsOf(now, endpoint, device), device))
    if (device) {
      showSentence(context, device, updates)
      showKnown(known, device)
      showLabels(context, labels, device, at, load)
    } else {
      context.sentence('This server does not know ', name(endpoint), ': no device of that name has registered, or its record was deleted.')
    }
    list.show(updates)
    list.element.hidden = updates.length === 0
    timeline.hidden = updates.length === 0
    const active = updates.find((u) => u.outcome === '')
    form.hidden = active !== undefined
    fill(busy, active && ['It has ', link(address(`updates/${active.id}`), 'an active update'), ': the next one can start when that has ended.'])
    const last = updates.find((u) => !u.damaged)
    if (last) lines.show((await get(path('updates', last.id), { signal })).journal, last.created)
    fill(past, updates.length === 0 ? h('p', { class: 'note' }, 'It has had no update by this server.') : null,
      page.next && link(address('updates', { endpoint }), 'All its updates'))
    await draw()
  }
  let drawn = null // whether the device was known
  const draw = async () => {
    if (drawn === (device !== null)) return
    drawn = device !== null
    if (!device) {
      fill(root, refused, section('Updates', list.element, past), timeline)
      return
    }
    await startForm(context, form, device)
    fill(root, refused, known, section('Labels', labels), section('Start an update', form, busy), section('Updates', list.element, past), timeline,
      section('Resources', resources(context, device, at)), section('Trace', trace(context, at)), remove(context, at))
  }
  const again = throttle(load, 1000)
  context.live({ kinds: 'update,device', endpoint }, {
    begun: again,
    event: (e, type) => {
      if (type === 'update') list.patch(e)
      if (type !== 'update' || e.event !== 'progress') again()
    },
  })
  await load()
  const timer = setInterval(() => { if (!document.hidden && device?.state !== 'registered') again() }, 10_000) // no event says that it was refused
  signal.addEventListener('abort', () => clearInterval(timer))
}

// unknown is null for a device of which the server has no record.
function unknown(error) {
  if (error.status === 404) return null
  throw error
}

function showSentence({ sentence }, d, updates) {
  const active = updates.find((u) => u.outcome === '')
  const runs = d.firmware.version ? ['Runs ', name(d.firmware.version)] : 'What it runs is not known'
  const state = {
    registered: ['It is registered, and was last seen ', when(d.last_seen), '.'],
    asleep: ['It sleeps, and was last seen ', when(d.last_seen), ': it gets what waits when it wakes.'],
    silent: ['It is registered and does not answer: last seen ', when(d.last_seen), '.'],
    not_registered: d.registered ? ['It is not registered: last seen ', when(d.last_seen), '.'] : 'It has never registered.',
  }[d.state]
  sentence(runs, '. ', state, ' ',
    active && [link(address(`updates/${active.id}`), 'An update'), ' to ', name(active.version), active.waiting_for ? [' waits for the ', active.waiting_for.reason] : ' is active', '.'])
}

const none = (value) => (value === null || value === undefined || value === '' ? h('span', { class: 'muted' }, 'not known') : name(value))

function showKnown(element, d) {
  const state = JSON.stringify(d)
  if (element.dataset.state === state) return
  element.dataset.state = state
  const attributes = Object.entries(d.attributes)
  fill(element, facts(
    ['State', deviceState(d)],
    ['Version', none(d.firmware.version)],
    ['Manufacturer', none(d.facts.manufacturer)],
    ['Model', none(d.facts.model)],
    ['Hardware', none(d.facts.hardware)],
    ['Firmware', d.firmware.state ? `${d.firmware.state}, result ${words(d.firmware.result?.name ?? 'not known')}` : none(null)],
    ['Takes packages', d.firmware.protocols || d.firmware.delivery ? [d.firmware.delivery === 'both' ? 'by push and pull' : d.firmware.delivery && `by ${d.firmware.delivery}`, d.firmware.protocols?.length > 0 && ` over ${d.firmware.protocols.join(', ')}`] : none(null)],
    ['Holds package', d.firmware.holds_package ? h('code', null, d.firmware.holds_package) : null],
    ['Component', d.firmware.component ? name(d.firmware.component) : null],
    ['Read', when(d.firmware.read, 'not yet')],
    ['Address', d.address ? [`${d.transport} `, name(d.address)] : null],
    ['LwM2M', d.lwm2m_version ? `${d.lwm2m_version}${d.queue_mode ? ', queue mode' : ''}` : null],
    ['Registered', when(d.registered)],
    ['Lifetime', d.lwm2m_version ? (d.lifetime > 0 ? span(d.lifetime) : 'without end') : null],
    ['Last seen', when(d.last_seen)],
    ['Clock', d.facts.zone || d.facts.offset ? [d.facts.zone && name(d.facts.zone), d.facts.offset && [' ', name(d.facts.offset)]] : null],
    ['Attributes', attributes.length > 0 ? attributes.map(([k, v]) => h('div', null, name(`${k}=${v}`))) : null]))
}

function showLabels({ act }, element, d, at, load) {
  const state = JSON.stringify(d.labels)
  if (element.dataset.state === state || element.contains(document.activeElement)) return
  element.dataset.state = state
  const entries = Object.entries(d.labels)
  const field = h('input', { id: 'labels', value: entries.map(([k, v]) => `${k}=${v}`).join(', '), spellcheck: 'false', autocapitalize: 'off', 'aria-describedby': 'labels-note' })
  const save = h('button', { type: 'submit' }, entries.length > 0 ? `Replace its ${many(entries.length, 'label')}` : 'Set its labels')
  fill(element,
    h('p', null, entries.map(([k, v]) => [h('a', { class: 'chip', href: address('fleet', { label: `${k}=${v}` }) }, name(`${k}=${v}`)), ' '])),
    h('form', {
      class: 'fields',
      onsubmit: (e) => {
        e.preventDefault()
        act(save, async () => {
          await send('PUT', `${at}/labels`, parseLabels(field.value))
          save.focus()
          document.activeElement.blur()
          await load()
        })
      },
    },
    h('div', { class: 'grow' }, h('label', { for: 'labels' }, 'Labels'), field), save),
    h('p', { class: 'note', id: 'labels-note' }, 'NAME=VALUE, separated by commas. Rollouts and searches select by them; only people change them.'))
}

function parseLabels(text) {
  const all = {}
  for (const part of text.split(',')) {
    const [label, value = ''] = part.trim().split(/=(.*)/s)
    if (label) all[label.trim()] = value.trim()
  }
  return all
}

async function startForm({ act, query: asked, signal }, element, d) {
  const { items: images } = await get('images?limit=200', { signal })
  const known = images.filter((i) => !i.damaged).sort((a, b) => b.created.localeCompare(a.created))
  if (known.length === 0) {
    fill(element, h('p', null, 'There is no image yet: ', link('#/images', 'upload one'), ' first.'))
    return
  }
  const fits = (i) => ['manufacturer', 'model', 'hardware'].every((f) => !i.compatible[f] || !d.facts[f] || i.compatible[f] === d.facts[f])
  const image = h('select', { id: 'start-image' }, known.map((i) => h('option', { value: i.id, selected: asked.get('start') === i.id, disabled: !fits(i) },
    `${imageName(i)}${i.version === d.firmware.version ? ' (it runs this version)' : ''}${fits(i) ? '' : ' (not made for this device)'}`)))
  const hold = h('input', { type: 'checkbox', id: 'start-hold' })
  const go = h('button', { type: 'submit', class: 'primary' })
  const says = () => {
    const chosen = known.find((i) => i.id === image.value)
    const version = chosen?.version ?? 'it'
    fill(go, hold.checked ? ['Bring ', name(version), ' to the device, which installs it when you release the hold'] : ['Bring ', name(version), ' to the device, which installs it and restarts'])
  }
  image.addEventListener('change', says)
  hold.addEventListener('change', says)
  says()
  const key = crypto.randomUUID?.() ?? String(Math.random()) // two clicks start one update
  fill(element, h('form', {
    class: 'fields',
    onsubmit: (e) => {
      e.preventDefault()
      act(go, async () => {
        const body = { endpoint: d.endpoint, image: image.value }
        if (hold.checked) body.hold = { holder: 'operator', reason: 'held on the page' }
        const update = await send('POST', 'updates', body, { headers: { 'Idempotency-Key': `${key}-${image.value.slice(0, 12)}-${hold.checked}` } })
        location.hash = address(`updates/${update.id}`)
      })
    },
  },
  h('div', null, h('label', { for: 'start-image' }, 'Image'), image),
  h('div', { class: 'check' }, hold, h('label', { for: 'start-hold' }, 'hold before it installs')), go))
}

function remove({ act }, at) {
  const button = h('button', {
    type: 'button', class: 'danger',
    onclick: () => act(button, async () => {
      if (!await confirm('Delete the record of this device?', 'Its labels, what was read of it and that it has used credentials are forgotten. Its updates stay. If it registers again it is a new device.', 'Delete the record', 'danger')) return
      await send('DELETE', at)
      location.hash = '#/fleet'
    }),
  }, 'Delete its record: labels and that it has used credentials are forgotten')
  return h('div', { class: 'acts' }, button)
}
