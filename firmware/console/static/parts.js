// Parts that several views share.

import { query } from './api.js'
import { h, fill, plain } from './dom.js'

// pager fills an element with the ways to the other pages of a list: page has the cursor next.
export function pager({ query: asked, go }, element, page) {
  const here = location.hash.replace(/^#\/?/, '').split('?')[0]
  const to = (cursor) => {
    const next = new URLSearchParams(asked)
    next.delete('cursor')
    if (cursor) next.set('cursor', cursor)
    const text = next.toString()
    return `#/${here}${text && `?${text}`}`
  }
  fill(element, h('nav', { class: 'pager', 'aria-label': 'Pages' },
    asked.has('cursor') && h('a', { class: 'button', href: to(null) }, 'First page'),
    page.next && h('a', { class: 'button', href: to(page.next), rel: 'next' }, 'Next 50')))
  element.hidden = !asked.has('cursor') && !page.next
}

// steady keeps a list still while it changes: what is shown changes in its place, and the button news
// announces what is not, and shows it. show(items) draws the rows; put(page) shows a page, and calls
// shown(page); merge(page) brings in the same page as it is now.
export function steady(show, key, shown) {
  let items = []
  let fresh = null
  const news = h('button', { type: 'button', class: 'news', hidden: true, onclick: () => put(fresh) })
  function put(page) {
    items = page.items
    news.hidden = true
    show(items)
    shown(page)
  }
  function merge(page) {
    if (items.length === 0) {
      put(page)
      return
    }
    const now = new Map(page.items.map((item) => [key(item), item]))
    items = items.map((item) => now.get(key(item)) ?? item)
    show(items)
    const there = new Set(items.map(key))
    const added = page.items.filter((item) => !there.has(key(item))).length
    fresh = page
    news.hidden = added === 0
    fill(news, added >= page.items.length ? `${added} or more new: show them` : `${added} new: show ${added === 1 ? 'it' : 'them'}`)
  }
  return { news, put, merge, items: () => items }
}

// The terms of a selector of devices, as the API has them.
export const selectorTerms = [
  ['contains', 'Part of the name', 'sensor-1'],
  ['label', 'Label', 'site=oslo'],
  ['model', 'Model', 'S1'],
  ['manufacturer', 'Manufacturer', 'Acme'],
  ['hardware', 'Hardware', 'rev-b'],
  ['version', 'Version', '1.0.0'],
  ['version_below', 'Version below', '2.0.0'],
]

// selectorQuery makes the parameters of GET devices of an address of the page: labels are there as
// ?label=site=oslo, repeated.
export function selectorQuery(asked) {
  const parameters = {}
  for (const [term] of selectorTerms) {
    if (term !== 'label' && asked.get(term)) parameters[term] = asked.get(term)
  }
  for (const text of asked.getAll('label')) {
    const [label, value = ''] = text.split(/=(.*)/s)
    if (label) parameters[`label.${label}`] = value === '' ? [''] : value
  }
  if (asked.get('registered') === 'true') parameters.registered = 'true'
  if (asked.get('state')) parameters.state = asked.get('state')
  return parameters
}

// selectorForm makes the form of a selector, which keeps its terms in the address. On a phone it is
// folded unless it is in use.
export function selectorForm({ query: asked, go }, used) {
  const fields = selectorTerms.map(([term, title, example]) => {
    const values = asked.getAll(term)
    return [term, h('input', { id: `select-${term}`, name: term, value: values.join(', '), placeholder: example, maxlength: '255', spellcheck: 'false', autocapitalize: 'off' }), title]
  })
  const registered = h('input', { type: 'checkbox', id: 'select-registered', checked: asked.get('registered') === 'true' })
  const form = h('form', {
    class: 'fields',
    onsubmit: (e) => {
      e.preventDefault()
      const changes = { cursor: null, registered: registered.checked ? 'true' : null }
      for (const [term, field] of fields) {
        changes[term] = term === 'label' ? field.value.split(',').map((s) => s.trim()).filter(Boolean) : field.value.trim()
      }
      go(changes)
    },
  },
  fields.map(([term, field, title]) => h('div', null, h('label', { for: `select-${term}` }, title), field)),
  h('div', { class: 'check' }, registered, h('label', { for: 'select-registered' }, 'registered')),
  h('button', { type: 'submit' }, 'Search devices'))
  return h('details', { class: 'plain', open: used || window.innerWidth > 720 }, h('summary', null, 'Search by label, model, version'), form)
}

// imageName is what an image is called in a list to choose from.
export function imageName(image) {
  return plain(`${image.name} ${image.version}`.trim())
}

// address makes an address of a view: address('updates', {outcome: 'failed'}).
export function address(at, parameters = {}) {
  return `#/${at}${query(parameters)}`
}

// confirm asks before what cannot be undone: it repeats the effect, and Enter or the button does it.
export function confirm(title, effect, verb, kind = 'primary') {
  return new Promise((resolve) => {
    const dialog = h('dialog', { 'aria-labelledby': 'confirm-title' })
    const end = (answer) => {
      dialog.close()
      dialog.remove()
      resolve(answer)
    }
    const yes = h('button', { type: 'button', class: kind, onclick: () => end(true) }, verb)
    fill(dialog, h('h2', { id: 'confirm-title' }, title), h('p', null, effect),
      h('div', { class: 'acts' }, yes, h('button', { type: 'button', onclick: () => end(false) }, 'Back')))
    dialog.addEventListener('cancel', (e) => {
      e.preventDefault()
      end(false)
    })
    document.body.append(dialog)
    dialog.showModal()
    yes.focus()
  })
}
