// Updates: a list with filters, live.

import { get, list as read, query, throttle } from '../api.js'
import { h, fill, name, link, table } from '../dom.js'
import { bytesOf, bar, count, ending, many, outcome, outcomeNames, until, when, words } from '../format.js'
import { address, imageName, pager, steady } from '../parts.js'
import { rolloutName, rolloutOf } from '../rollouts.js'

export const title = 'Updates'

const size = 50

// The reasons for which updates end, by outcome, as the API has them.
const reasons = {
  succeeded: ['version', 'result', 'same_version', 'already_running'],
  rolled_back: ['old_version', 'device_result'],
  failed: ['version_mismatch', 'device_result', 'attempts', 'refused', 'no_delivery', 'not_served', 'no_firmware_object', 'bad_state', 'cannot_prove', 'image_damaged', 'incompatible'],
  timed_out: ['phase_limit', 'deadline'],
  cancelled: ['operator'],
}
const turns = { device: 'waits for the device', operator: 'waits for you', server: 'waits for this server' }

export async function show(context) {
  const { root, query: asked, signal } = context
  const chosen = asked.get('outcome') ?? ''
  const parameters = {
    outcome: chosen === '' ? null : chosen === 'active' ? [''] : chosen,
    reason: asked.get('reason'), whose: asked.get('whose'), image: asked.get('image'), endpoint: asked.get('endpoint'), contains: asked.get('contains'),
    label: asked.getAll('label'),
  }
  const list = updateTable('Updates')
  const note = h('p', { class: 'note' })
  const pages = h('div')
  const filters = h('div', { class: 'filters', role: 'group', 'aria-label': 'Outcome' })
  const fine = h('form', { class: 'fields' })

  const load = () => read('updates', { ...parameters, cursor: asked.get('cursor') }, { limit: size, signal })
  const rows = steady(list.show, (u) => u.id, (page) => {
    pager(context, pages, page)
    if (page.items.length > 0) fill(note)
    else if (page.next) fill(note, 'None among these; there are more to look through.')
    else empty(note, asked)
  })
  const again = throttle(async () => {
    const [page, counts] = await Promise.all([load(), get(`counts${query({ image: asked.get('image') })}`, { signal })])
    showCounts(context, counts.items, filters)
    rows.merge(page)
  }, 1500)

  showFilters(context, filters, fine)
  context.live({ kinds: 'update', endpoint: asked.get('endpoint') }, {
    begun: again,
    event: (e) => {
      list.patch(e)
      if (e.event !== 'progress') again()
    },
  })
  const [page, counts] = await Promise.all([load(), get(`counts${query({ image: asked.get('image') })}`, { signal })])
  showCounts(context, counts.items, filters)
  rows.put(page)
  fill(root, filters, fine, rows.news, list.element, note, pages)
}

// updateTable makes a table of updates that events can change. It is used for those of a device too.
export function updateTable(label, without = []) {
  const to = (u, ...content) => link(address(`updates/${u.id}`), content)
  const versions = (u) => !u.damaged && [u.old_version && [name(u.old_version), ' to '], name(u.version)]
  const element = table([
    { title: 'Device', cell: (u) => to(u, name(u.endpoint ?? u.id)) },
    { title: 'Version', class: 'versions', cell: (u) => (without.includes('Device') ? to(u, versions(u) || u.id) : versions(u)) },
    { title: 'Outcome', cell: (u) => !u.damaged && outcome(u.outcome) },
    { title: 'Why', cell: why },
    { title: 'Changed', class: 'nowrap', of: (u) => u.updated, cell: (u) => when(u.updated) },
  ].filter((c) => !without.includes(c.title)), { key: (u) => u.id, href: (u) => address(`updates/${u.id}`), label })
  let items = []
  return {
    element,
    show: (now) => {
      items = now
      element.show(now)
    },
    // patch changes the row of an event's update, if it is shown.
    patch: (e) => {
      const u = items.find((one) => one.id === e.update)
      if (!u) return
      Object.assign(u, { phase: e.phase, state: e.state, result: e.result, outcome: e.outcome })
      if (e.progress) u.progress = e.progress
      if (e.event !== 'progress') u.updated = e.time
      if (e.outcome) u.waiting_for = null
      element.row(u.id)?.update(u)
    },
  }
}

// why is what an update waits for, or why it ended.
export function why(u) {
  if (u.damaged) return `its record is damaged: ${u.damaged}`
  if (u.outcome) return ending(u)
  const moves = u.phase === 'transferring' && u.progress.total > 0
  return [
    !u.waiting_for ? words(u.phase) : u.waiting_for.whose === 'operator' && rolloutOf(u) ? ['waits for its turn in the rollout ', rolloutName(rolloutOf(u))]
      : ['waits for the ', u.waiting_for.reason, u.waiting_for.until && h('span', { class: 'muted' }, ', ', until(u.waiting_for.until), ' at the latest')],
    moves && bar(u.progress.bytes, u.progress.total, bytesOf(u.progress.bytes, u.progress.total)),
  ]
}

function showCounts({ sentence, query: asked }, items, filters) {
  const sums = Object.fromEntries(outcomeNames.map((o) => [o, 0]))
  for (const c of items) sums[c.outcome || 'active'] += c.updates
  for (const o of outcomeNames) {
    const number = filters.querySelector(`[data-outcome="${o}"] .number`)
    if (number) number.textContent = ` ${count(sums[o])}`
  }
  const all = Object.values(sums).reduce((a, b) => a + b, 0)
  if (all === 0) {
    sentence('There is no update yet.')
    return
  }
  const bad = sums.failed + sums.rolled_back + sums.timed_out
  sentence(`${count(sums.active)} of ${many(all, 'update')} ${sums.active === 1 ? 'is' : 'are'} active`,
    asked.get('image') && ' with this image', bad > 0 ? `; ${count(bad)} did not come to the new version.` : '; none went wrong.')
}

function showFilters({ query: asked, go, signal }, filters, fine) {
  const chosen = asked.get('outcome') ?? ''
  const keep = ['image', 'endpoint', 'contains']
  const to = (outcomeName) => {
    const kept = Object.fromEntries(keep.map((k) => [k, asked.get(k)]))
    return address('updates', { ...kept, outcome: outcomeName, label: asked.getAll('label') })
  }
  fill(filters, h('a', { href: to(''), 'aria-current': chosen === '' ? 'true' : null }, 'all'),
    outcomeNames.map((o) => h('a', { href: to(o), 'data-outcome': o, 'aria-current': chosen === o ? 'true' : null }, outcome(o), h('span', { class: 'number' }))))
  const options = chosen === 'active' ? Object.entries(turns) : (reasons[chosen] ?? []).map((r) => [r, words(r)])
  const what = chosen === 'active' ? 'whose' : 'reason'
  const choice = h('select', { id: 'filter-choice', onchange: () => go({ [what]: choice.value, cursor: null }) },
    h('option', { value: '' }, 'any'), options.map(([value, text]) => h('option', { value, selected: asked.get(what) === value }, text)))
  const contains = h('input', { id: 'filter-contains', type: 'search', value: asked.get('contains') ?? '', maxlength: '255' })
  const chosenImage = asked.get('image') ?? ''
  const image = h('select', { id: 'filter-image', onchange: () => go({ image: image.value, cursor: null }) },
    h('option', { value: '' }, 'any'), chosenImage && h('option', { value: chosenImage, selected: true }, chosenImage.slice(0, 12)))
  get('images?limit=200', { signal }).then(({ items }) => {
    const known = items.filter((i) => !i.damaged)
    if (known.some((i) => i.id === chosenImage)) fill(image, image.firstElementChild)
    image.append(...known.map((i) => h('option', { value: i.id, selected: i.id === chosenImage }, imageName(i))))
  }, () => {})
  fine.addEventListener('submit', (e) => {
    e.preventDefault()
    go({ contains: contains.value.trim(), cursor: null })
  })
  fill(fine,
    options.length > 0 && h('div', null, h('label', { for: 'filter-choice' }, chosen === 'active' ? 'Whose turn' : 'Reason'), choice),
    h('div', null, h('label', { for: 'filter-contains' }, 'Part of the device or id'), contains),
    h('div', null, h('label', { for: 'filter-image' }, 'Image'), image),
    h('button', { type: 'submit' }, 'Filter'))
}

function empty(element, asked) {
  if ([...asked.keys()].length > 0) {
    fill(element, 'No update fits. ', link('#/updates', 'Show all updates'))
    return
  }
  fill(element, 'An update brings an image to a device: start one at the ', link('#/fleet', 'device'), ', or one for many as a ', link('#/rollouts', 'rollout'), '. By the API:',
    h('pre', null, "curl -H 'Content-Type: application/json' -d '{\"endpoint\": \"DEVICE\", \"image\": \"ID\"}' http://127.0.0.1:8080/api/v1/updates"))
}
