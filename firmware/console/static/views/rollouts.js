// Rollouts: which there are, how far they have come, and why each stands where it stands.

import { get, query, throttle } from '../api.js'
import { h, fill, name, link, table } from '../dom.js'
import { many, outcome, stack, until, when } from '../format.js'
import { pager } from '../parts.js'
import { imageName, memberParts } from '../rollouts.js'

export const title = 'Rollouts'

const states = [['active', 'Active'], ['', 'All']]

export async function show(context) {
  const { root, query: asked, signal } = context
  const all = asked.get('show') === 'all'
  const news = h('button', { type: 'button', class: 'news', hidden: true, onclick: () => load() })
  const shown = table([
    { title: 'Rollout', cell: (r) => link(`#/rollouts/${r.id}`, name(r.name || r.id)) },
    { title: 'State', of: (r) => [r.state, r.damaged], cell: (r) => (r.damaged ? `its record is damaged: ${r.damaged}` : outcome(r.state)) },
    { title: 'Why', class: 'why', of: (r) => [r.reason, r.until], cell: (r) => [name(r.reason ?? ''), r.until && r.until !== r.end_at && [', ', until(r.until)]] },
    { title: 'Devices', class: 'bars', of: (r) => r.members, cell: (r) => r.members && stack(memberParts(r.members), total(r.members)) },
    { title: 'Image', class: 'nowrap', of: (r) => r.image, cell: (r) => r.image && imageName(r.image, signal) },
    { title: 'Created', class: 'nowrap', of: (r) => r.created, cell: (r) => r.created && when(r.created) },
  ], { key: (r) => r.id, href: (r) => `#/rollouts/${r.id}`, label: 'Rollouts' })
  const pages = h('div')
  const body = h('div')
  fill(root,
    h('div', { class: 'acts' }, h('nav', { class: 'filters', 'aria-label': 'Which rollouts' },
      states.map(([state, word]) => h('a', { href: state ? '#/rollouts' : '#/rollouts?show=all', 'aria-current': (state === '') === all ? 'true' : null }, word))),
    h('a', { class: 'button', href: '#/rollouts/new' }, 'New rollout')),
    news, body, pages)

  let known = new Set()
  const load = async () => {
    const page = await get(`rollouts${query({ limit: 50, cursor: asked.get('cursor'), state: all ? '' : 'active' })}`, { signal })
    known = new Set(page.items.map((r) => r.id))
    news.hidden = true
    fresh.clear()
    shown.show(page.items)
    showSentence(context, page.items, all, Boolean(page.next))
    if (page.items.length === 0) {
      fill(body, all ? teach() : h('p', { class: 'note' }, 'None is active. ', link('#/rollouts?show=all', 'Show those that have ended'), '.'))
    } else if (shown.parentNode !== body) fill(body, shown)
    pager(context, pages, page)
  }
  const fresh = new Set()
  const again = throttle(load, 2000)
  context.live({ kinds: 'rollout' }, {
    begun: again,
    event: (data, type) => {
      if (type !== 'rollout') return
      if (known.has(data.id) || data.deleted) again()
      else if (!asked.has('cursor')) {
        fresh.add(data.id)
        if (known.size === 0) again()
        news.textContent = `${many(fresh.size, 'new rollout')}: show`
        news.hidden = known.size === 0
      }
    },
  })
  await load()
}

function total(members) {
  return Object.values(members).reduce((a, b) => a + b, 0)
}

function showSentence({ sentence }, items, all, more) {
  const active = items.filter((r) => r.state && r.state !== 'ended')
  const paused = active.filter((r) => r.state === 'paused')
  if (active.length === 0) {
    sentence(items.length === 0 && all ? 'No rollout has been made yet.' : 'No rollout is active.')
    return
  }
  const number = more && !all ? `More than ${active.length}` : String(active.length)
  sentence(`${number} ${active.length === 1 ? 'rollout is' : 'rollouts are'} active`,
    paused.length > 0 && [paused.length === active.length && !more ? (paused.length === 1 ? ', and it is paused' : ', and all are paused') : `, ${paused.length} of them paused`], '. ',
    paused[0] && [link(`#/rollouts/${paused[0].id}`, name(paused[0].name || paused[0].id)), ': ', name(paused[0].reason), '.'])
}

function teach() {
  return h('div', null,
    h('p', null, 'A rollout brings one image to many devices, in stages that stop by themselves when too many devices fail. ', link('#/rollouts/new', 'Make one here'), ', or with the API:'),
    h('pre', null, 'curl -H \'Content-Type: application/json\' -d \'{"image":"ID","targets":{"select":{}},"start":true}\' http://127.0.0.1:8080/api/v1/rollouts'))
}
