// Elements are made by functions, and every text becomes a text node: nothing that a device says is
// ever parsed as markup.

// h makes an element. props: class, on* (functions), aria-*, data-* and other attributes; true means
// an attribute without a value, false, null and undefined none. Children are nodes, texts, numbers,
// lists of these; null, undefined and false are left out.
export function h(tag, props, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name === 'class') element.className = value
    else if (name === 'value') element.value = value
    else element.setAttribute(name, value === true ? '' : value)
  }
  add(element, children)
  return element
}

function add(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue
    if (Array.isArray(child)) add(parent, child)
    else parent.append(child)
  }
}

// fill replaces what an element has.
export function fill(element, ...children) {
  element.replaceChildren()
  add(element, children)
  return element
}

// text sets the text of an element if it changes.
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value
}

// confusing matches characters that are not seen, or that change the order of what follows.
const confusing = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g

// name shows a text that a device or a person chose: apart from the direction of what surrounds it,
// and with characters that are not seen written as their numbers, such as U+202E.
export function name(value, props) {
  const element = h('bdi', { class: 'name', ...props })
  const string = String(value)
  let last = 0
  for (const match of string.matchAll(confusing)) {
    const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0')
    element.append(string.slice(last, match.index), h('span', { class: 'unseen' }, `U+${code}`))
    last = match.index + match[0].length
  }
  element.append(string.slice(last))
  return element
}

// plain is name for places that take text only, such as options.
export function plain(value) {
  return String(value).replaceAll(confusing, (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`)
}

// link makes a link to a view of the page, such as link('#/devices/x', 'x').
export function link(href, ...children) {
  return h('a', { href }, ...children)
}

// keyed brings the children of parent in line with items, and keeps the element of an item that
// was there: make(item) returns an element with a method update(item).
export function keyed(parent, items, key, make) {
  const old = parent.keyed ?? new Map()
  const kept = new Map()
  for (const item of items) {
    const k = key(item)
    const element = old.get(k) ?? make(item)
    old.delete(k)
    kept.set(k, element)
  }
  for (const element of old.values()) element.remove()
  let at = parent.firstElementChild
  for (const item of items) {
    const element = kept.get(key(item))
    if (element === at) at = at.nextElementSibling
    else parent.insertBefore(element, at)
    element.update?.(item)
  }
  parent.keyed = kept
  return kept
}

// table makes a table whose rows are kept by key. columns are {title, class, cell(item)}: cell
// returns what the cell shows, or a list of it. On a phone each row is a card, and the title stands before each value.
// href(item), if given, is where Enter and the row's first link lead.
export function table(columns, { key, href, label, rowClass }) {
  const body = h('tbody')
  const element = h('table', { class: 'list', 'aria-label': label },
    h('thead', null, h('tr', null, columns.map((c) => h('th', { scope: 'col', class: c.class }, c.title)))), body)
  function make(item) {
    const cells = columns.map((c, i) => h(i === 0 ? 'th' : 'td', { scope: i === 0 ? 'row' : null, class: c.class, 'data-title': c.title }))
    const row = h('tr', { 'data-href': href?.(item) }, cells)
    let shown = []
    row.update = (now) => {
      if (rowClass) row.className = rowClass(now)
      columns.forEach((c, i) => {
        // A cell is made again only if what it shows has changed, so that a selection stays.
        const state = JSON.stringify(c.of ? c.of(now) : now)
        if (shown[i] === state) return
        shown[i] = state
        fill(cells[i], h('div', null, c.cell(now)))
      })
    }
    return row
  }
  element.show = (items) => keyed(body, items, key, make)
  element.row = (k) => body.keyed?.get(k)
  return element
}

// facts makes a list of terms and what they are: pairs of [term, content]; those with content null
// or undefined are left out.
export function facts(...pairs) {
  return h('dl', { class: 'facts' }, pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined)
    .map(([term, value]) => h('div', null, h('dt', null, term), h('dd', null, value))))
}

// section makes a part of a view with a heading.
export function section(title, ...children) {
  const id = `s-${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}`
  return h('section', { 'aria-labelledby': id }, h('h2', { id }, title), ...children)
}
