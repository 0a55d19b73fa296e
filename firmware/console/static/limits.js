// The limits of a rollout that can be changed while it runs, and the fields that they share with a
// new one.

import { send } from './api.js'
import { h, fill } from './dom.js'
import { form } from './rollouts.js'

const days = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']

// number reads a field of a number: undefined if it is empty, NaN as text so that the API refuses it.
export function number(field) {
  const text = field.value.trim()
  if (text === '') return undefined
  const value = Number(text)
  return Number.isNaN(value) ? text : value
}

// instant reads a field of date and time, which is in the zone of the browser.
export function instant(field) {
  return field.value === '' ? undefined : new Date(field.value).toISOString()
}

// local writes a time for such a field.
export function local(time) {
  if (!time) return ''
  const at = new Date(time)
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}

// windowFields makes the fields of a window; value() is the window, null for always.
export function windowFields(f, now) {
  const from = h('input', { value: now?.from ?? '', placeholder: '22:00', maxlength: '5', size: '6' })
  const to = h('input', { value: now?.to ?? '', placeholder: '04:00', maxlength: '5', size: '6' })
  const zone = h('input', { value: now?.zone ?? '', placeholder: 'Europe/Oslo', maxlength: '64', spellcheck: 'false' })
  const fallback = h('input', { value: now?.fallback_zone ?? '', placeholder: 'Europe/Oslo', maxlength: '64', spellcheck: 'false' })
  const covers = h('select', { value: now?.covers ?? 'install' }, h('option', { value: 'install' }, 'installing only'), h('option', { value: 'all' }, 'downloads too'))
  covers.value = now?.covers ?? 'install'
  const boxes = days.map((day) => h('label', { class: 'day' }, h('input', { type: 'checkbox', value: day, checked: now?.days?.includes(day) }), day))
  const daySet = h('div', { role: 'group', 'aria-label': 'Days on which the window begins; none is every day', class: 'days' }, boxes)
  f.fields.set('window.days', daySet)
  daySet.id = 'field-window-days'
  return {
    element: h('fieldset', null, h('legend', null, 'Window for installing (empty: always)'), h('div', { class: 'fields' },
      f.field('window.from', 'From', from), f.field('window.to', 'To', to),
      f.field('window.zone', 'Zone', zone, 'a zone, or device: the clock of each'), f.field('window.fallback_zone', 'Zone of devices that show none', fallback),
      f.field('window.covers', 'It covers', covers)), daySet),
    value: () => {
      if (from.value.trim() === '' && to.value.trim() === '' && zone.value.trim() === '') return null
      const chosen = boxes.map((b) => b.firstChild).filter((b) => b.checked).map((b) => b.value)
      const w = { from: from.value.trim(), to: to.value.trim(), zone: zone.value.trim(), covers: covers.value }
      if (fallback.value.trim()) w.fallback_zone = fallback.value.trim()
      if (chosen.length > 0) w.days = chosen
      return w
    },
  }
}

// limitsForm changes the limits of a rollout.
export function limitsForm(context, r, at, changed) {
  const f = form()
  const concurrency = h('input', { value: String(r.concurrency), inputmode: 'numeric' })
  const rate = h('input', { value: r.rate ? String(r.rate) : '', inputmode: 'decimal', placeholder: 'no limit' })
  const maxFailure = h('input', { value: String(r.max_failure), inputmode: 'decimal' })
  const endAt = h('input', { type: 'datetime-local', value: local(r.end_at) })
  const notes = h('textarea', { rows: '3', maxlength: '4096' })
  notes.value = r.notes
  const reason = h('input', { maxlength: '1000', id: 'edit-reason', placeholder: 'why, for the journal' })
  const window = windowFields(f, r.window)
  const was = { end: endAt.value, notes: r.notes, concurrency: r.concurrency, rate: r.rate, max: r.max_failure, window: JSON.stringify(window.value()) }
  const details = h('details', null, h('summary', null, 'Change its limits'))
  const element = h('form', {
    onsubmit: (e) => {
      e.preventDefault()
      context.act(e.submitter, async () => {
        f.clear()
        const body = {}
        if (number(concurrency) !== was.concurrency) body.concurrency = number(concurrency)
        if ((number(rate) ?? null) !== was.rate) body.rate = number(rate) ?? null
        if (number(maxFailure) !== was.max) body.max_failure = number(maxFailure)
        if (endAt.value !== was.end) body.end_at = instant(endAt)
        if (notes.value !== was.notes) body.notes = notes.value
        if (JSON.stringify(window.value()) !== was.window) body.window = window.value()
        if (reason.value.trim()) body.reason = reason.value.trim()
        try {
          await send('PATCH', at, body, { signal: context.signal })
        } catch (problem) {
          if (f.refuse(problem)) return
          throw problem
        }
        const parent = details.parentElement
        fill(parent) // it is made again with the new values
        await changed()
      })
    },
  },
  h('div', { class: 'fields' },
    f.field('concurrency', 'Devices at a time', concurrency), f.field('rate', 'Admissions a minute', rate),
    f.field('max_failure', 'Bad share that pauses it', maxFailure, '0.05 is 5 %'), f.field('end_at', 'Ends (time of this browser)', endAt)),
  window.element,
  f.field('notes', 'Notes', notes),
  h('div', { class: 'field' }, h('label', { for: 'edit-reason' }, 'Reason for the change (optional)'), reason),
  h('div', { class: 'acts' }, h('button', { type: 'submit' }, 'Change: it counts from the next device on')))
  details.append(element)
  return details
}
