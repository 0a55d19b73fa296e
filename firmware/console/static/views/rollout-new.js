// New rollout: what to bring where, in which stages. Each change makes a dry run, which says how many
// devices that is, who is skipped and why, and what the defaults are. Nothing is stored before the
// last button.

import { get, send, path } from '../api.js'
import { h, fill, name, link, section, facts } from '../dom.js'
import { bytes, count, many, utc, words } from '../format.js'
import { instant, number, windowFields } from '../limits.js'
import { form, titleOf } from '../rollouts.js'
import { windowText } from './rollout.js'

export const title = 'New rollout'

const shownImages = 500
const pause = 300 // ms after the last key before the dry run
const patience = 200 // ms before the page says that it counts

export async function show(context) {
  const { root, query: asked, signal, sentence, heading } = context
  heading(link('#/rollouts', 'Rollouts'), ' / New rollout')
  const page = await get(`images?limit=${shownImages}`, { signal })
  const images = page.items.filter((i) => !i.damaged).toSorted((a, b) => (a.created < b.created ? 1 : -1))
  if (images.length === 0) {
    sentence('There is no image to roll out yet.')
    fill(root, h('p', null, link('#/images', 'Upload one'), ' first.'))
    return
  }

  const f = form()
  const text = (props) => h('input', { maxlength: '255', spellcheck: 'false', autocapitalize: 'off', ...props })
  const image = h('select', null, h('option', { value: '' }, 'choose an image'), images.map((i) => h('option', { value: i.id }, `${titleOf(i)}, ${bytes(i.size)}${compatible(i)}`)))
  image.value = images.some((i) => i.id === asked.get('image')) ? asked.get('image') : ''
  const title = text({ autocapitalize: 'sentences', placeholder: 'spring' })

  // Devices.
  const bySelector = h('input', { type: 'radio', name: 'targets', id: 'targets-select', value: 'select', checked: true })
  const byList = h('input', { type: 'radio', name: 'targets', id: 'targets-list', value: 'list' })
  const terms = {
    labels: text({ placeholder: 'site=oslo, room=4', value: asked.getAll('label').join(', ') }),
    model: text({ placeholder: 'any', value: asked.get('model') ?? '' }), manufacturer: text({ placeholder: 'any', value: asked.get('manufacturer') ?? '' }),
    hardware: text({ placeholder: 'any', value: asked.get('hardware') ?? '' }), version: text({ placeholder: 'any', value: asked.get('version') ?? '' }),
    version_below: text({ placeholder: 'any', value: asked.get('version_below') ?? '' }),
  }
  const registered = h('input', { type: 'checkbox', id: 'target-registered' })
  const list = h('textarea', { rows: '5', spellcheck: 'false', placeholder: 'one name a line' })
  const selector = h('div', { class: 'fields' },
    f.field('targets.select.labels', 'Labels', terms.labels), f.field('targets.select.model', 'Model', terms.model),
    f.field('targets.select.manufacturer', 'Manufacturer', terms.manufacturer), f.field('targets.select.hardware', 'Hardware', terms.hardware),
    f.field('targets.select.version', 'Version', terms.version), f.field('targets.select.version_below', 'Version below', terms.version_below))
  const reachable = h('div', { class: 'check' }, registered, h('label', { for: 'target-registered' }, 'only those that are registered now'))
  const named = f.field('targets.endpoints', 'Names of devices', list)
  const chooseTargets = () => {
    selector.hidden = reachable.hidden = !bySelector.checked
    named.hidden = bySelector.checked
  }
  chooseTargets()

  // Limits.
  const fields = {
    concurrency: h('input', { inputmode: 'numeric' }), rate: h('input', { inputmode: 'decimal', placeholder: 'no limit' }),
    max_failure: h('input', { inputmode: 'decimal' }), missing_after: text(), start_at: h('input', { type: 'datetime-local' }), end_at: h('input', { type: 'datetime-local' }),
  }
  const window = windowFields(f, null)
  const downgrade = h('input', { type: 'checkbox', id: 'new-downgrade' })
  const notes = h('textarea', { rows: '3', maxlength: '4096' })

  // Updates.
  const select = (...options) => h('select', null, options.map((o) => h('option', { value: o === 'default' ? '' : o }, words(o))))
  const update = {
    delivery: select('default', 'auto', 'push', 'pull'), protocol: select('default', 'auto', 'coap', 'coaps', 'http', 'https', 'coap+tcp', 'coaps+tcp'),
    verify: select('default', 'version', 'result'), deadline: text({ placeholder: '24h' }), attempts: h('input', { inputmode: 'numeric', placeholder: '5' }),
    profile: text({ placeholder: 'default' }),
  }
  const force = h('input', { type: 'checkbox', id: 'new-force' })
  const labels = text({ placeholder: 'ticket=OPS-117' })
  const stages = stageFields(f, () => changed())

  const plan = h('div', { class: 'plan', 'aria-live': 'polite' })
  const start = h('button', { type: 'submit', class: 'primary', disabled: true, 'data-start': 'true' }, 'Create and start')
  const draft = h('button', { type: 'submit', disabled: true }, 'Create a draft: it starts when you say so')

  function body() {
    const b = { image: image.value, targets: {} }
    if (title.value.trim()) b.name = title.value.trim()
    if (bySelector.checked) {
      const s = {}
      if (terms.labels.value.trim()) s.labels = pairs(terms.labels.value)
      for (const term of ['model', 'manufacturer', 'hardware', 'version', 'version_below']) {
        if (terms[term].value.trim()) s[term] = terms[term].value.trim()
      }
      if (registered.checked) s.registered = true
      b.targets.select = s
    } else {
      b.targets.endpoints = list.value.split('\n').map((e) => e.trim()).filter(Boolean)
    }
    if (stages.value()) b.stages = stages.value()
    for (const field of ['concurrency', 'rate', 'max_failure']) if (number(fields[field]) !== undefined) b[field] = number(fields[field])
    if (fields.missing_after.value.trim()) b.missing_after = fields.missing_after.value.trim()
    for (const field of ['start_at', 'end_at']) if (instant(fields[field])) b[field] = instant(fields[field])
    if (window.value()) b.window = window.value()
    if (downgrade.checked) b.downgrade = true
    if (notes.value) b.notes = notes.value
    const u = {}
    for (const field of ['delivery', 'protocol', 'verify', 'deadline', 'profile']) if (update[field].value.trim()) u[field] = update[field].value.trim()
    if (number(update.attempts) !== undefined) u.attempts = number(update.attempts)
    if (force.checked) u.force = true
    if (labels.value.trim()) u.labels = pairs(labels.value)
    if (Object.keys(u).length > 0) b.update = u
    return b
  }

  // The dry run of what the form says now; the buttons wait for it.
  let timer
  let running = new AbortController()
  let shown = null // the body that the dry run was of, and its answer
  const changed = () => {
    chooseTargets()
    if (shown && JSON.stringify(body()) === JSON.stringify(shown.asks)) return
    clearTimeout(timer)
    running.abort()
    shown = null
    start.disabled = draft.disabled = true
    if (image.value === '') {
      delete plan.dataset.counting
      sentence('Choose an image; then this page says which devices get it.')
      fill(plan, h('p', { class: 'note' }, 'The dry run comes here. It stores nothing.'))
      return
    }
    const first = !plan.firstChild
    if (!plan.querySelector('.planned')) counting()
    timer = setTimeout(dryRun, first ? 0 : pause)
  }
  let known = 0 // devices; the dry run says how many of them it selects
  get('fleet', { signal }).then((fleet) => {
    known = fleet.devices
    if (plan.dataset.counting) counting()
  }, () => {})
  const counting = () => {
    const among = known > 0 ? `${many(known, 'device')} that this server knows` : 'the devices that this server knows'
    plan.dataset.counting = 'true'
    sentence(`Counting which of ${among} would get this image.`)
    fill(plan, h('p', { class: 'note' }, 'The dry run comes here. It stores nothing.'))
  }
  async function dryRun() {
    running = new AbortController()
    const current = AbortSignal.any([running.signal, signal])
    const asks = body()
    const slow = setTimeout(counting, patience)
    try {
      const run = await send('POST', 'rollouts?dry_run=true', asks, { signal: current })
      f.clear()
      shown = { asks, run }
      showPlan(context, plan, run)
      placeholders(fields, run.plan)
      stages.defaults(run.plan.stages)
      const first = run.stages[0]
      fill(start, h('b', null, 'Create and start'), run.targets > 0 && `: ${many(Math.min(first, run.targets), 'device')} may begin, ${count(run.targets - Math.min(first, run.targets))} wait for the next stages`)
      start.disabled = draft.disabled = run.targets === 0
    } catch (problem) {
      if (problem.name === 'AbortError') return
      if (!f.refuse(problem, false)) fill(plan, h('p', { class: 'refusal', role: 'alert' }, name(problem.message)))
      sentence('As it stands this cannot be created: ', name(problem.message), '.')
    } finally {
      clearTimeout(slow)
      if (!current.aborted) delete plan.dataset.counting
    }
  }
  async function create(button, starts) {
    await context.act(button, async () => {
      const { asks, run } = shown
      try {
        const made = await send('POST', 'rollouts', { ...asks, id: run.id, start: starts }, { signal, headers: { 'Idempotency-Key': run.id } })
        location.hash = `#/${path('rollouts', made.id)}`
      } catch (problem) {
        if (!f.refuse(problem, true)) throw problem
      }
    })
  }

  fill(root, h('form', {
    class: 'new',
    oninput: changed,
    onsubmit: (e) => {
      e.preventDefault()
      if (shown) create(e.submitter, e.submitter === start)
    },
  },
  h('div', { class: 'asked' },
    section('What', h('div', { class: 'fields' }, f.field('image', 'Image', image, page.next ? `the newest of the first ${shownImages}` : null), f.field('name', 'Name (optional)', title))),
    section('Which devices',
      h('div', { class: 'filters', role: 'radiogroup', 'aria-label': 'How the devices are chosen' },
        h('label', { class: 'chip', for: 'targets-select' }, bySelector, ' all that fit'), h('label', { class: 'chip', for: 'targets-list' }, byList, ' a list of names')),
      selector, reachable, named),
    section('Stages', stages.element),
    h('details', null, h('summary', null, 'Limits and window'),
      h('div', { class: 'fields' },
        f.field('concurrency', 'Devices at a time', fields.concurrency, 'that many transfer, and that many install'), f.field('rate', 'Admissions a minute', fields.rate),
        f.field('max_failure', 'Bad share that pauses it', fields.max_failure, '0.05 is 5 %'), f.field('missing_after', 'Silent is bad after', fields.missing_after, 'from Execute on'),
        f.field('start_at', 'Starts', fields.start_at, 'in the zone of this browser; empty: now'), f.field('end_at', 'Ends', fields.end_at, 'in the zone of this browser')),
      window.element,
      h('div', { class: 'check' }, downgrade, h('label', { for: 'new-downgrade' }, 'also devices that run a higher version, or one that cannot be compared'))),
    h('details', null, h('summary', null, 'Each update'),
      h('div', { class: 'fields' },
        f.field('update.delivery', 'Delivery', update.delivery), f.field('update.protocol', 'Protocol of a pull', update.protocol), f.field('update.verify', 'Judged by', update.verify),
        f.field('update.deadline', 'Deadline of a device', update.deadline), f.field('update.attempts', 'Attempts', update.attempts), f.field('update.profile', 'Profile', update.profile),
        f.field('update.labels', 'Labels of the updates', labels)),
      h('div', { class: 'check' }, force, h('label', { for: 'new-force' }, 'also devices that run the version, or for which the image is not meant'))),
    h('details', null, h('summary', null, 'Notes'), f.field('notes', 'For people', notes))),
  h('div', { class: 'answer' }, section('Dry run', plan), h('div', { class: 'orders' }, h('div', null, start), h('div', null, draft)))))
  changed()
}

function compatible(i) {
  const terms = Object.values(i.compatible ?? {})
  return terms.length > 0 ? `, for ${terms.join(' ')}` : ''
}

// pairs reads labels such as site=oslo, room=4.
function pairs(value) {
  return Object.fromEntries(value.split(',').map((s) => s.trim()).filter(Boolean).map((s) => {
    const [k, v = ''] = s.split(/=(.*)/s)
    return [k.trim(), v.trim()]
  }))
}

function placeholders(fields, plan) {
  fields.concurrency.placeholder = count(plan.concurrency)
  fields.max_failure.placeholder = String(plan.max_failure)
  fields.missing_after.placeholder = plan.missing_after
}

const skipped = {
  already_current: 'with this version already', incompatible: 'for which the image is not made', not_comparable: 'with a version that is higher or cannot be compared',
}

// examples names a few of many devices.
function examples(tally) {
  return [tally.examples.slice(0, 3).map((e, i) => [i > 0 && ', ', link(`#/${path('devices', e)}`, name(e))]), tally.devices > 3 && ', …']
}

function showPlan({ sentence }, element, run) {
  const out = run.skipped.reduce((sum, t) => sum + t.devices, 0)
  sentence(run.targets === 0 ? 'No device would get this image' : `${many(run.targets, 'device')} would get this image`, out > 0 && `; ${count(out)} ${out === 1 ? 'is' : 'are'} skipped`, '.')
  const tallies = (list, word) => h('ul', { class: 'tallies' }, list.map((t) => h('li', null, h('b', null, count(t.devices)), ' ', word(t), h('span', { class: 'note' }, [' ', examples(t)]))))
  fill(element,
    h('ol', { class: 'planned' }, run.plan.stages.map((s, i) => h('li', null, h('b', null, `Stage ${i + 1}`), `: ${i > 0 ? 'up to ' : ''}${many(run.stages[i], 'device')}${i > 0 ? ' in all' : ''}`,
      s.manual && ', opened by an operator', s.soak !== '0s' && `, watched for ${s.soak}`))),
    run.skipped.length > 0 && [h('h3', null, 'Skipped'), tallies(run.skipped, (t) => skipped[t.reason] ?? words(t.reason))],
    run.versions.length > 0 && [h('h3', null, 'They run now'), tallies(run.versions, (t) => (t.version ? name(t.version) : 'a version that is not known'))],
    run.unheld.length > 0 && [h('h3', null, 'Install by themselves'), h('p', { class: 'note' }, 'As soon as they have the package, so they get it only when they may install.'), tallies(run.unheld, (t) => t.how)],
    run.first.length > 0 && [h('h3', null, 'The first ones, if they can be reached'), h('p', null, run.first.map((e, i) => [i > 0 && ', ', link(`#/${path('devices', e)}`, name(e))]))],
    facts(['At a time', count(run.plan.concurrency)], ['Rate', run.plan.rate ? `${run.plan.rate} a minute` : 'no limit'], ['Pauses above', `${Math.round(run.plan.max_failure * 1e4) / 100} % bad`],
      ['Silent is bad', `after ${run.plan.missing_after}`], ['Window', run.plan.window ? windowText(run.plan.window) : 'always'],
      run.plan.start_at && ['Starts', utc(run.plan.start_at)], ['Ends', utc(run.plan.end_at)]))
}

// stageFields are the stages: those of the server until they are changed.
function stageFields(f, changed) {
  const rows = h('ol', { class: 'stage-fields' })
  const own = h('p', { class: 'note' }, 'Those of the server.')
  let list = null // of {size, soak, manual, only}
  let server = []
  const change = h('button', { type: 'button', onclick: () => { list = server.map((s) => ({ size: String(s.size), soak: s.soak === '0s' ? '' : s.soak, manual: s.manual, only: '' })); draw(true) } }, 'Change the stages')
  const add = h('button', { type: 'button', onclick: () => { list.splice(Math.max(0, list.length - 1), 0, { size: '', soak: '', manual: false, only: '' }); draw(true) } }, 'Add a stage')
  const back = h('button', { type: 'button', onclick: () => { list = null; draw(true) } }, 'Back to those of the server')
  const draw = (tell) => {
    for (const key of [...f.fields.keys()]) if (key.startsWith('stages')) f.fields.delete(key)
    own.hidden = list !== null
    change.hidden = list !== null || server.length === 0
    add.hidden = back.hidden = list === null
    f.fields.set('stages', add)
    add.id = 'add-stage'
    fill(rows, (list ?? []).map((s, i) => {
      const input = (key, props) => h('input', { value: s[key], maxlength: '255', ...props, oninput: (e) => { s[key] = e.target.value } })
      const manual = h('input', { type: 'checkbox', id: `stage-${i}-manual`, checked: s.manual, onchange: (e) => { s.manual = e.target.checked } })
      return h('li', null, h('div', { class: 'fields', role: 'group', 'aria-label': `Stage ${i + 1}` },
        f.field(`stages[${i}].size`, `Stage ${i + 1}: devices in all`, input('size', { placeholder: '10 or 10%' })), f.field(`stages[${i}].soak`, 'Watched for', input('soak', { placeholder: '10m' })),
        f.field(`stages[${i}].only`, 'Only devices with', input('only', { placeholder: 'canary=yes' }))),
      h('div', { class: 'check' }, manual, h('label', { for: `stage-${i}-manual` }, 'opened by an operator'),
        list.length > 1 && h('button', { type: 'button', class: 'quiet', 'aria-label': `Remove stage ${i + 1}`, onclick: () => { list.splice(i, 1); draw(true) } }, 'Remove')))
    }))
    if (tell) changed()
  }
  draw(false)
  return {
    element: [own, rows, h('div', { class: 'acts' }, change, add, back)],
    defaults(stages) {
      if (list !== null) return
      server = stages
      own.textContent = `Those of the server: ${stages.map((s) => `${s.size === '100%' ? 'all' : s.size}${s.soak === '0s' ? '' : ` (watched for ${s.soak})`}`).join(', then ')}.`
      change.hidden = false
    },
    value: () => list?.map((s) => {
      const stage = { size: /^[0-9]+$/.test(s.size.trim()) ? Number(s.size) : s.size.trim() }
      if (s.soak.trim()) stage.soak = s.soak.trim()
      if (s.manual) stage.manual = true
      if (s.only.trim()) stage.only = { labels: pairs(s.only) }
      return stage
    }),
  }
}
