// Parts that the views of rollouts share.

import { get } from './api.js'
import { h, fill, name } from './dom.js'

// memberParts makes the parts of a bar of members by state, or of the counters of a stage.
export function memberParts(counts) {
  return [
    { kind: 'succeeded', count: counts.succeeded },
    { kind: 'active', count: counts.active },
    { kind: 'rolled_back', count: counts.rolled_back },
    { kind: 'failed', count: counts.failed },
    { kind: 'skipped', count: counts.skipped },
    { kind: 'waiting', count: counts.waiting ?? 0 },
  ]
}

const images = new Map() // promises, by id

// image reads an image once.
export function image(id, signal) {
  if (!images.has(id)) {
    images.set(id, get(`images/${encodeURIComponent(id)}`, { signal }).catch((error) => {
      images.delete(id)
      throw error
    }))
  }
  return images.get(id)
}

// titleOf is what people call an image.
export function titleOf(i) {
  return `${i.name} ${i.version}`.trim()
}

// imageName shows the name and version of an image; its id until they are known.
export function imageName(id, signal) {
  const element = h('a', { href: `#/images?contains=${encodeURIComponent(id)}` }, id.slice(0, 8))
  image(id, signal).then((i) => fill(element, name(titleOf(i))), () => {})
  return element
}

const rollouts = new Map() // promises of names, by id

// rolloutOf is the rollout whose turn an update waits for; null if another hold keeps it, or none.
export function rolloutOf(u) {
  const holders = (u.holds ?? []).map((one) => one.holder)
  return holders.length > 0 && holders.every((one) => one.startsWith('rollout/')) ? holders[0].slice('rollout/'.length) : null
}

// rolloutName shows the name of a rollout; the begin of its id until it is known.
export function rolloutName(id) {
  if (!rollouts.has(id)) rollouts.set(id, get(`rollouts/${encodeURIComponent(id)}`).then((r) => r.name))
  const element = h('a', { href: `#/rollouts/${encodeURIComponent(id)}` }, `${id.slice(0, 10)}…`)
  rollouts.get(id).then((title) => title && fill(element, name(title)), () => rollouts.delete(id))
  return element
}

// form makes the fields of a form by their names in the API, and shows a refusal at the field
// that it names.
export function form() {
  const fields = new Map()
  const note = (field) => document.getElementById(`note-${field.id}`)
  const clear = () => {
    for (const field of fields.values()) {
      field.removeAttribute('aria-invalid')
      note(field)?.remove()
      field.setAttribute('aria-describedby', field.dataset.hint ?? '')
    }
  }
  return {
    fields,
    // field makes a label, a control and a hint; path is the name in the API, such as window.from.
    field(path, title, control, hint) {
      const id = control.id || `field-${path.replaceAll(/[^a-z0-9]+/g, '-')}`
      control.id = id
      fields.set(path, control)
      if (hint) {
        control.dataset.hint = `hint-${id}`
        control.setAttribute('aria-describedby', `hint-${id}`)
      }
      return h('div', { class: 'field' }, h('label', { for: id }, title), control, hint && h('p', { class: 'note', id: `hint-${id}` }, hint))
    },
    clear,
    // refuse shows a problem at the field that it names, or at the nearest one above; it returns
    // false if there is none.
    refuse(problem, takeFocus = true) {
      clear()
      for (let path = problem.field; path; path = path.replace(/(\.|\[)?[^.[]*$/, '')) {
        const field = fields.get(path)
        if (!field) continue
        for (let e = field.closest('details'); e; e = e.parentElement.closest('details')) e.open = true
        if (!field.checkVisibility()) continue
        field.setAttribute('aria-invalid', 'true')
        const text = h('p', { class: 'refusal', role: 'alert', id: `note-${field.id}` }, name(problem.message))
        field.setAttribute('aria-describedby', `${text.id} ${field.dataset.hint ?? ''}`.trim())
        field.after(text)
        if (takeFocus) field.focus()
        return true
      }
      return false
    },
  }
}
