// The search field: jumps to a device, an update, a rollout or an image by any part of its name.

import { list as read, Problem } from './api.js'
import { h, fill, name } from './dom.js'
import { count, outcome } from './format.js'
import { status } from './status.js'

const most = 6 // of each kind
const perPage = 1000 // names that the server looks at, for a page on which few fit
const pages = 300 // of a list, where few of many records fit: 300,000 devices

const kinds = [
  ['Device', 'devices', (d) => [`#/devices/${encodeURIComponent(d.endpoint)}`, name(d.endpoint), d.firmware.version]],
  ['Update', 'updates', (u) => [`#/updates/${u.id}`, [u.id.slice(0, 10), '… ', name(u.endpoint), ' to ', name(u.version)], outcome(u.outcome)]],
  ['Rollout', 'rollouts', (r) => [`#/rollouts/${r.id}`, name(r.name || r.id), outcome(r.state)]],
  ['Image', 'images', (i) => [`#/images?contains=${encodeURIComponent(i.id)}`, name(`${i.name} ${i.version}`.trim()), i.id.slice(0, 8)]],
]

export function startSearch() {
  const form = document.getElementById('search')
  const field = document.getElementById('search-field')
  const list = document.getElementById('search-list')
  let current = new AbortController()
  let timer
  let picked = false // by an arrow; else the first one is chosen, also when it comes last
  let running = Promise.resolve()
  let searched = ''

  const close = () => {
    current.abort()
    clearTimeout(timer)
    list.hidden = true
    field.setAttribute('aria-expanded', 'false')
    field.removeAttribute('aria-activedescendant')
  }

  const options = () => [...list.querySelectorAll('[role=option]')]
  const choose = (option) => {
    for (const o of options()) o.setAttribute('aria-selected', String(o === option))
    if (option) {
      field.setAttribute('aria-activedescendant', option.id)
      option.scrollIntoView({ block: 'nearest' })
    }
  }

  const search = () => { running = find() }
  async function find() {
    picked = false
    current.abort()
    current = new AbortController()
    const { signal } = current
    searched = field.value
    const contains = field.value.trim()
    if (!contains) {
      close()
      return
    }
    // Each kind shows as soon as it is there, in its own place.
    const groups = [...kinds, []].map(() => [])
    let left = kinds.length + 1
    let looked = 0 // pages of lists that had no room for all
    let refused = ''
    const draw = () => {
      if (signal.aborted) return
      const rows = groups.flat()
      rows.forEach((row, i) => { row.id = `found-${i}` })
      fill(list, rows, left > 0 ? h('li', { class: 'note', role: 'presentation' }, looked > 0 ? `Searching: ${count(looked * perPage)} names looked at` : 'Searching')
        : rows.length === 0 && h('li', { class: 'note', role: 'presentation' }, refused || `Nothing has ${contains} in its name.`))
      list.hidden = false
      field.setAttribute('aria-expanded', 'true')
      if (rows.length > 0 && !picked) choose(rows[0])
    }
    draw() // at once, as a name that is not there takes seconds among very many
    const option = (kind, [href, title, note]) => h('li', { role: 'option', 'data-to': href, 'aria-selected': 'false' }, h('span', { class: 'kind' }, kind), h('span', { class: 'what' }, title), h('span', { class: 'note' }, note))
    const refusals = status().then((now) => {
      const lower = contains.toLowerCase()
      const names = new Set((now?.refusals ?? []).map((r) => r.endpoint || r.identity).filter((one) => one.toLowerCase().includes(lower)))
      groups[kinds.length] = [...names].slice(0, most).map((one) => option('Refused', [`#/devices/${encodeURIComponent(one)}`, name(one), 'by this server']))
    }).finally(() => {
      left--
      draw()
    })
    await Promise.all([refusals, ...kinds.map(async ([kind, address, view], i) => {
      let shown = 0
      const show = (items) => {
        groups[i].push(...items.slice(shown).filter((one) => !one.damaged).map((item) => option(kind, view(item))))
        shown = items.length
      }
      try {
        const found = await read(address, { contains }, { limit: most, pages, signal, more: (items) => {
          looked++
          show(items)
          draw()
        } })
        show(found.items)
      } catch (error) {
        if (!(error instanceof Problem)) return
        if (error.status !== 404) refused = error.message
      } finally {
        left--
        draw()
      }
    })])
  }

  const open = (option) => {
    close()
    field.value = ''
    field.blur()
    location.hash = option.dataset.to
  }

  field.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(search, 150)
  })
  field.addEventListener('keydown', (e) => {
    if (e.key === 'Escape') {
      close()
      field.blur()
      return
    }
    if (e.key !== 'ArrowDown' && e.key !== 'ArrowUp') return
    e.preventDefault()
    picked = true
    const all = options()
    const at = all.findIndex((o) => o.getAttribute('aria-selected') === 'true')
    choose(all[(at + (e.key === 'ArrowDown' ? 1 : all.length - 1)) % all.length])
  })
  form.addEventListener('submit', async (e) => {
    e.preventDefault()
    clearTimeout(timer)
    const selected = () => options().find((o) => o.getAttribute('aria-selected') === 'true')
    if (searched !== field.value || list.hidden) search()
    // A name in full is often found long before all the others were looked through.
    if (!picked) await Promise.race([running, new Promise((resolve) => setTimeout(resolve, 500))])
    if (!selected()) await running
    if (selected()) open(selected())
  })
  list.addEventListener('mousedown', (e) => e.preventDefault()) // the field keeps the focus
  list.addEventListener('click', (e) => {
    const option = e.target.closest('[role=option]')
    if (option) open(option)
  })
  field.addEventListener('blur', close)
}
