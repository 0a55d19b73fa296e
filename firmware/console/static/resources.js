// The resources of a device: read, written and executed by the models of the server. Each act is a
// request to the device itself, so it may take a while, or wait for a device that sleeps.

import { get, send } from './api.js'
import { h, fill, name } from './dom.js'
import { when } from './format.js'
import { confirm } from './parts.js'

// resources makes the part of a view with the objects of a device.
export function resources(context, device, at) {
  const objects = device.objects ?? []
  if (objects.length === 0) return h('p', { class: 'note' }, 'It has registered no object.')
  return h('div', null,
    h('p', { class: 'note' }, 'Each of these asks the device itself.', device.state === 'asleep' && ' It sleeps: it answers when it wakes, if it does within 30 s.'),
    objects.map((o) => {
      const body = h('div')
      const element = h('details', null, h('summary', null, name(o.name || `Object ${o.id}`), h('span', { class: 'muted' }, ` /${o.id} ${o.version}, `, o.instances.length === 1 ? '1 instance' : `${o.instances.length} instances`)), body)
      element.addEventListener('toggle', () => {
        if (element.open && !body.hasChildNodes()) fill(body, o.instances.map((i) => instance(context, at, o, i)), o.instances.length === 0 && h('p', { class: 'note' }, 'It has no instance now.'))
      })
      return element
    }))
}

function instance(context, at, object, id) {
  const place = `${at}/resources/${object.id}/${id}`
  const list = h('div')
  const read = h('button', { type: 'button', onclick: () => context.act(read, load) }, `Read /${object.id}/${id}`)
  let seen = null
  async function load() {
    const { signal } = context
    // What there is says which resources can be written or executed; some devices do not discover.
    const [values, links] = await Promise.all([
      get(place, { signal }),
      get(`${place}?discover=true`, { signal }).then((v) => v.links, () => []),
    ])
    seen = new Date().toISOString()
    const models = new Map(links.map((l) => [l.path, l]))
    const rows = values.values.map((v) => value(context, at, v, models.get(ofResource(v.path)), load))
    const shown = new Set(values.values.map((v) => ofResource(v.path)))
    const further = links.filter((l) => l.path.split('/').length === 4 && !shown.has(l.path)).map((l) => unread(context, at, l, load))
    fill(list, h('p', { class: 'note' }, 'Read ', when(seen), '.'), h('ul', { class: 'resources' }, rows, further))
  }
  return h('div', { class: 'instance' }, h('div', { class: 'acts' }, read), list)
}

// ofResource cuts a path such as /3/0/7/1 down to that of the resource.
function ofResource(at) {
  return at.split('/').slice(0, 4).join('/')
}

function row(at, title, ...content) {
  return h('li', null, h('span', null, h('span', { class: 'path' }, at), ' ', name(title || 'without a model')), h('span', { class: 'content' }, content))
}

function value(context, at, v, model, load) {
  const shown = typeof v.value === 'string' ? v.value : JSON.stringify(v.value)
  const content = h('span', null, v.type === 'time' ? when(v.value) : name(shown), v.unit && ` ${v.unit}`)
  const element = row(v.path, v.name, content)
  if (!model || /W/.test(model.operations ?? 'W')) {
    const edit = h('button', { type: 'button', class: 'quiet', onclick: () => {
      edit.hidden = true
      element.lastChild.append(editor(context, at, v, shown, load, () => { edit.hidden = false }))
    } }, 'Write')
    element.lastChild.append(' ', edit)
  }
  return element
}

function unread(context, at, l, load) {
  if (/E/.test(l.operations ?? '')) {
    const run = h('button', { type: 'button', onclick: () => context.act(run, async () => {
      if (!await confirm(`Execute ${l.name || l.path}?`, 'The device does it at once, and the page cannot take it back.', `Execute ${l.name || l.path}`, 'danger')) return
      await send('POST', `${at}/resources${l.path}`)
      fill(note, 'The device has accepted it.')
    }) }, `Execute ${l.name || l.path}`)
    const note = h('span', { class: 'note' })
    return row(l.path, l.name, run, note)
  }
  const element = row(l.path, l.name, h('span', { class: 'muted' }, 'no value'))
  if (/W/.test(l.operations ?? '')) {
    const edit = h('button', { type: 'button', class: 'quiet', onclick: () => {
      edit.hidden = true
      element.lastChild.append(editor(context, at, { path: l.path, type: l.type ?? 'string', name: l.name }, '', load, () => { edit.hidden = false }))
    } }, 'Write')
    element.lastChild.append(' ', edit)
  }
  return element
}

// editor asks for a value and writes it.
function editor(context, at, v, shown, load, closed) {
  const field = v.type === 'boolean'
    ? h('select', { 'aria-label': `Value of ${v.name || v.path}` }, h('option', { value: 'true', selected: v.value === true }, 'true'), h('option', { value: 'false', selected: v.value === false }, 'false'))
    : h('input', { value: shown, 'aria-label': `Value of ${v.name || v.path}`, spellcheck: 'false' })
  const write = h('button', { type: 'submit' }, 'Write it to the device')
  const form = h('form', {
    class: 'fields',
    onsubmit: (e) => {
      e.preventDefault()
      context.act(write, async () => {
        await send('PUT', `${at}/resources${v.path}`, { type: v.type, value: parse(v.type, field.value) })
        await load()
      })
    },
  }, field, write, h('button', { type: 'button', onclick: () => {
    form.remove()
    closed()
  } }, 'Leave it'))
  return form
}

// parse makes the JSON of a value. A text that is no number goes as it is: the API says what is wrong.
function parse(type, text) {
  if (type === 'boolean') return text === 'true'
  const numeric = type === 'integer' || type === 'unsigned_integer' || type === 'float'
  if (numeric && text.trim() !== '' && Number.isFinite(Number(text)) && (type === 'float' || Math.abs(Number(text)) <= Number.MAX_SAFE_INTEGER)) return Number(text)
  return text
}

