// Images: what can be installed, who runs it, and what uses it.

import { get, send, upload, path, query, throttle } from '../api.js'
import { h, fill, name, link, section, table } from '../dom.js'
import { bar, bytes, bytesOf, count, many, outcomeNames, stack, when } from '../format.js'
import { confirm, pager } from '../parts.js'
import { form, titleOf } from '../rollouts.js'

export const title = 'Images'

export async function show(context) {
  const { root, query: asked, signal } = context
  const contains = asked.get('contains')
  let versions = new Map() // devices, by version
  let counts = new Map() // of updates by outcome, by image

  const shown = table([
    { title: 'Image', cell: (i) => (i.damaged ? name(i.id) : [name(titleOf(i)), fits(i)]) },
    { title: 'Size', class: 'figure', of: (i) => i.size, cell: (i) => (i.damaged ? `its record is damaged: ${i.damaged}` : bytes(i.size)) },
    { title: 'SHA-256', class: 'digest', of: (i) => i.sha256, cell: (i) => i.sha256 && h('code', null, i.sha256) },
    { title: 'Run by', class: 'nowrap', of: (i) => versions.get(i.version) ?? 0, cell: (i) => runs(i, versions.get(i.version) ?? 0) },
    { title: 'Updates', class: 'bars', of: (i) => counts.get(i.id), cell: (i) => updates(i, counts.get(i.id)) },
    { title: 'Uploaded', class: 'nowrap', of: (i) => i.created, cell: (i) => i.created && when(i.created) },
    { title: 'Acts', class: 'does', of: () => 0, cell: (i) => !i.damaged && h('div', { class: 'acts' }, h('a', { class: 'button', href: `#/rollouts/new?image=${encodeURIComponent(i.id)}` }, 'Roll out'), h('button', { type: 'button', class: 'danger', 'aria-label': `Delete ${titleOf(i)}`, onclick: (e) => remove(e.currentTarget, i) }, 'Delete')) },
  ], { key: (i) => i.id, label: 'Images' })
  const list = h('div')
  const pages = h('div')

  const changed = async () => {
    document.dispatchEvent(new Event('images'))
    await load()
  }
  const load = async () => {
    const [page, fleet, updated] = await Promise.all([
      get(`images${query({ limit: 50, cursor: asked.get('cursor'), contains })}`, { signal }), get('fleet', { signal }), get('counts', { signal }),
    ])
    versions = new Map(fleet.versions.map((v) => [v.version, v.devices]))
    counts = new Map()
    for (const c of updated.items) counts.set(c.image, { ...counts.get(c.image), [c.outcome || 'active']: c.updates })
    shown.show(page.items)
    if (page.items.length === 0) fill(list, contains ? h('p', { class: 'note' }, 'No image has ', name(contains), ' in its name. ', link('#/images', 'Show all')) : teach())
    else if (shown.parentNode !== list) fill(list, contains && h('p', null, link('#/images', 'Show all images')), shown)
    pager(context, pages, page)
    showSentence(context, page, counts)
  }

  // remove deletes an image; the server says before whether it may go.
  const remove = (button, i) => context.act(button, async () => {
    const at = path('images', i.id)
    await send('DELETE', `${at}?dry_run=true`, undefined, { signal })
    const n = versions.get(i.version) ?? 0
    if (!(await confirm(`Delete ${titleOf(i)}?`, `Its ${bytes(i.size)} go, and no update can bring it to a device until it is uploaded again. ${n > 0 ? `${many(n, 'device that runs it goes on', 'devices that run it go on')}. ` : ''}It cannot be undone.`, 'Delete it', 'danger'))) return
    await send('DELETE', at, undefined, { signal })
    await changed()
  })

  await load()
  fill(root, list, pages, uploadForm(context, changed))
  const again = throttle(load, 2000)
  context.live({}, { counts: true, begun: again, event: again })
  const timer = setInterval(() => { if (!document.hidden) again() }, 10_000) // no event says that there is another image
  signal.addEventListener('abort', () => clearInterval(timer))
}

function showSentence({ sentence }, page, counts) {
  const n = page.items.length
  const moving = page.items.filter((i) => counts.get(i.id)?.active > 0).length
  sentence(n === 0 ? 'No image yet.' : page.next ? `More than ${n} images` : many(n, 'image'), n > 0 && [moving === 0 ? '; none is on its way to a device' : `; ${moving} on ${moving === 1 ? 'its' : 'their'} way to devices`, '.'])
}

function fits(i) {
  const terms = Object.entries(i.compatible ?? {})
  return terms.length > 0 && h('span', { class: 'note' }, [' for ', name(terms.map(([k, v]) => `${k} ${v}`).join(', '))])
}

function runs(i, n) {
  return i.version === undefined ? '' : n > 0 ? link(`#/fleet${query({ version: i.version })}`, many(n, 'device')) : h('span', { class: 'muted' }, 'no device')
}

function updates(i, of) {
  if (!of) return i.damaged ? '' : h('span', { class: 'muted' }, 'none')
  const all = Object.values(of).reduce((a, b) => a + b, 0)
  return [stack(outcomeNames.map((kind) => ({ kind, count: of[kind] ?? 0 })), all), link(`#/updates${query({ image: i.id })}`, `${count(all)} in all`)]
}

function teach() {
  return h('div', null,
    h('p', null, 'An image is a package of firmware with the version that a device reports (3/0/3) once it runs it. Upload one below, or with the API:'),
    h('pre', null, 'curl -H \'Content-Type: application/octet-stream\' --data-binary @firmware.bin \'http://127.0.0.1:8080/api/v1/images?name=sensor&version=1.1.0\''))
}

function uploadForm(context, changed) {
  const f = form()
  const file = h('input', { type: 'file', required: true })
  const text = (props) => h('input', { maxlength: '255', spellcheck: 'false', autocapitalize: 'off', ...props })
  const fields = {
    version: text({ required: true, placeholder: '1.1.0' }), name: text({ placeholder: 'sensor' }),
    manufacturer: text({ placeholder: 'any' }), model: text({ placeholder: 'any' }), hardware: text({ placeholder: 'any' }),
  }
  const moving = h('div', { 'aria-live': 'polite' })
  const button = h('button', { type: 'submit', class: 'primary' }, 'Upload')
  let current = null
  const cancel = h('button', { type: 'button', hidden: true, onclick: () => current.abort() }, 'Cancel: the server keeps nothing of it')
  return section('Upload an image', h('form', {
    onsubmit: (e) => {
      e.preventDefault()
      context.act(button, async () => {
        f.clear()
        const blob = file.files[0]
        current = new AbortController()
        const stop = () => current.abort()
        context.signal.addEventListener('abort', stop)
        const progress = bar(0, blob.size, bytesOf(0, blob.size))
        fill(moving, progress)
        cancel.hidden = false
        const began = Date.now()
        try {
          const image = await upload(`images${query(Object.fromEntries(Object.entries(fields).map(([k, field]) => [k, field.value.trim()])))}`, blob, (sent, total) => {
            const seconds = (Date.now() - began) / 1000
            progress.update(sent, total, sent === total ? `${bytes(total)} sent, the server stores them` : `${bytesOf(sent, total)}${seconds > 1 ? `, ${bytes(sent / seconds)}/s` : ''}`)
          }, current.signal)
          fill(moving, h('p', null, 'Stored ', name(titleOf(image)), `, ${bytes(image.size)}. SHA-256: `, h('code', null, image.sha256)))
          file.value = ''
          await changed()
        } catch (problem) {
          fill(moving)
          if (problem.name === 'AbortError') fill(moving, h('p', { class: 'note' }, 'Cancelled. The server keeps nothing of it.'))
          else if (!f.refuse(problem, true)) throw problem
        } finally {
          cancel.hidden = true
          context.signal.removeEventListener('abort', stop)
        }
      })
    },
  },
  h('div', { class: 'fields' }, f.field('file', 'File', file), f.field('version', 'Version', fields.version, 'what 3/0/3 of a device says that runs it'), f.field('name', 'Name', fields.name)),
  h('details', null, h('summary', null, 'Only for some devices'), h('div', { class: 'fields' },
    f.field('manufacturer', 'Manufacturer', fields.manufacturer, '3/0/0'), f.field('model', 'Model', fields.model, '3/0/1'), f.field('hardware', 'Hardware', fields.hardware, '3/0/18'))),
  moving, h('div', { class: 'acts' }, button, cancel)))
}
