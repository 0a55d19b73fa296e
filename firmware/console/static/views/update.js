// Update: how far it is, what it waits for and until when, its journal, and what a cancel would do.

import { get, path, send, throttle } from '../api.js'
import { h, fill, facts, link, name, section } from '../dom.js'
import { bar, bytes, bytesOf, ending, outcome, span, until, when, words } from '../format.js'
import { journal } from '../journal.js'
import { address, confirm } from '../parts.js'
import { remedy } from '../remedies.js'
import { rolloutName, rolloutOf } from '../rollouts.js'
import { refusalsOf, refusedSentence, status } from '../status.js'

export const title = 'Update'

const phases = ['waiting', 'preparing', 'transferring', 'transferred', 'executing', 'restarting', 'verifying']

export async function show(context) {
  const { root, params, signal, sentence, heading, act } = context
  const at = path('updates', params.update)
  const rate = meter()
  const progress = h('div', { class: 'wide' })
  const steps = h('ol', { class: 'steps', 'aria-label': 'Phases' })
  const last = h('p', { class: 'muted' })
  const whose = h('div')
  const acts = h('div', { class: 'acts' })
  const about = h('div')
  const lines = journal()
  let update
  let moving = null

  const drawProgress = () => {
    const { bytes: done, total } = update.progress
    if (!total) return
    const says = progressText(update, rate)
    if (moving) moving.update(done, total, says)
    else fill(progress, (moving = bar(done, total, says, update.outcome || 'active')))
  }

  const draw = (now) => {
    if (update && update.outcome !== now.outcome) moving = null
    update = now
    heading('Update of ', link(address(path('devices', now.endpoint)), name(now.endpoint)))
    showSentence(sentence, now)
    rate.note(now)
    drawProgress()
    showLast(last, now)
    showSteps(steps, now)
    showActs(acts, now, at, act, load)
    showAbout(about, now)
    lines.show(now.journal, now.created)
  }
  const load = async () => {
    draw(await get(at, { signal }))
    fill(whose, await waitsFor(update, signal))
  }
  const again = throttle(load, 500)

  context.live({ kinds: 'update', update: params.update }, {
    begun: again,
    event: (e) => {
      if (!update || e.update !== update.id) return
      if (e.event !== 'progress') {
        again()
        return
      }
      update.progress = e.progress
      rate.note(update)
      drawProgress()
    },
  })
  await load()
  const timer = setInterval(() => { if (!document.hidden && update.waiting_for) again() }, 10_000) // no event says that the device was refused
  signal.addEventListener('abort', () => clearInterval(timer))
  fill(root, whose, last, progress, steps, acts, about, section('Journal', lines.element))
}

function showSentence(sentence, u) {
  const name_ = name(u.version)
  if (u.outcome) {
    sentence(outcome(u.outcome), ' ', when(u.ended), `: ${ending(u)}. `, u.may_still && mayStill(u), remedy(u))
    return
  }
  const w = u.waiting_for
  if (!w) {
    sentence('Brings ', name_, ' to the device.')
    return
  }
  if (rolloutOf(u) && w.whose === 'operator') {
    sentence('Waits for its turn in the rollout ', rolloutName(rolloutOf(u)), '.')
    return
  }
  const turn = { device: 'The device is to act', operator: 'You are to act', server: 'This server is to act' }[w.whose]
  const last = w.until && Date.parse(w.until) > Date.parse(u.deadline) - 1000
  sentence('Waits for the ', w.reason, '. ', turn, '. ', w.until && ['If nothing changes, ', last ? 'the update times out ' : 'the server acts ', until(w.until), '.'])
}

// waitsFor says more of what an update waits for: when the device was heard, whether this server
// refused it, or where the rollout stands that holds the update.
async function waitsFor(u, signal) {
  const w = u.waiting_for
  const rollout = rolloutOf(u)
  if (w?.whose === 'operator' && rollout) {
    const r = await get(path('rollouts', rollout), { signal }).catch(missing)
    return r && h('p', { class: 'warning' }, 'The rollout is ', words(r.state), ': ', name(r.reason), '.', r.until && r.until !== r.end_at && [' That ends ', until(r.until), '.'])
  }
  if (w?.whose !== 'device') return null
  const [d, now] = await Promise.all([get(path('devices', u.endpoint), { signal }).catch(missing), status()])
  const heard = d?.last_seen ? ['The device was last heard ', when(d.last_seen), d.address && [', at ', name(d.address)], d.queue_mode && ['. It sleeps between its messages; its registration lasts ', span(d.lifetime)], '.']
    : 'This server has never heard of the device.'
  return [h('p', null, heard), refusedSentence(refusalsOf(now, u.endpoint, d), d)]
}

// missing is null for what does not exist or cannot be seen.
function missing(error) {
  if (error.name === 'Problem') return null
  throw error
}

// showLast shows the newest line of the journal, which often says why it waits.
function showLast(element, u) {
  const line = u.journal.findLast((one) => !one.damaged)
  element.hidden = u.outcome !== '' || !line
  if (line) fill(element, 'Last ', when(line.time), ': ', words(line.event), line.detail && [', ', name(line.detail)], '.')
}

function mayStill(u) {
  return {
    none: 'The device installs nothing of it.',
    install: ['The device may still install ', name(u.version), '.'],
    unknown: ['It is not known whether the device still installs ', name(u.version), '.'],
  }[u.may_still]
}

// meter finds the rate of a transfer over the last half minute.
function meter() {
  let seen = []
  return {
    note(u) {
      const now = Date.now()
      const done = u.progress.bytes
      if (seen.length > 0 && done < seen.at(-1)[1]) seen = [] // another attempt
      if (seen.length === 0 || done !== seen.at(-1)[1]) seen.push([now, done])
      seen = seen.filter(([t]) => now - t < 30_000 || t === seen.at(-1)[0]).slice(-60)
    },
    perSecond() {
      if (seen.length < 2) return 0
      const [t0, b0] = seen[0]
      const [, b1] = seen.at(-1)
      const seconds = (Math.max(seen.at(-1)[0], Date.now() - 2000) - t0) / 1000
      return seconds > 1 ? (b1 - b0) / seconds : 0
    },
  }
}

function progressText(u, rate) {
  const { bytes: done, total } = u.progress
  const says = bytesOf(done, total)
  if (u.outcome || done >= total || u.phase !== 'transferring') return `${says} of the package`
  const speed = rate.perSecond()
  return speed > 0 ? `${says}, ${bytes(Math.round(speed))}/s, about ${span((total - done) / speed)} left` : says
}

function showSteps(element, u) {
  element.hidden = u.outcome !== '' // an update that has ended need not have been in each of them
  const at = phases.indexOf(u.phase)
  fill(element, phases.map((p, i) => h('li', { class: i < at ? 'done' : i === at ? 'now' : 'next', 'aria-current': i === at ? 'step' : null }, p)),
    h('li', { class: 'next' }, 'ended'))
}

function showActs(element, u, at, act, load) {
  // The buttons stay while nothing changes, so that the focus and a refusal do.
  const state = JSON.stringify([u.outcome, u.if_cancelled, u.holds])
  if (element.dataset.state === state) return
  element.dataset.state = state
  const button = (label, work, kind) => {
    const b = h('button', { type: 'button', class: kind, onclick: () => act(b, work) }, label)
    return b
  }
  fill(element,
    u.if_cancelled && button(`Cancel: ${u.if_cancelled.effect}`, async () => {
      if (await confirm('Cancel this update?', [`Then ${u.if_cancelled.effect}.`], 'Cancel the update', 'danger')) {
        await send('POST', `${at}/cancel`)
        await load()
      }
    }, 'danger'),
    !u.outcome && u.holds.length === 0 && !['executing', 'restarting', 'verifying'].includes(u.phase) && button('Hold: it still transfers, and does not install until you release it', async () => {
      await send('POST', `${at}/hold`, { holder: 'operator', reason: 'held on the page' })
      await load()
    }),
    u.holds.map((one) => button(['Release the hold of ', name(one.holder), ': it installs when no hold is left'], async () => {
      await send('POST', `${at}/release`, { holder: one.holder })
      await load()
    })),
    u.outcome && u.outcome !== 'succeeded' && link(address(path('devices', u.endpoint), { start: u.image }), 'Start another one for this device'))
}

function showAbout(element, u) {
  const state = JSON.stringify({ ...u, progress: null, journal: null, waiting_for: null })
  if (element.dataset.state === state) return
  element.dataset.state = state
  fill(element, facts(
    ['Version', [u.old_version ? [name(u.old_version), ' to '] : null, name(u.version)]],
    ['Image', link(address('images', { contains: u.image }), h('code', null, u.image.slice(0, 12)))],
    ['Phase', words(u.phase)],
    ['State', `${u.state}, result ${words((u.reported_result ?? u.result).name)}`],
    ['Attempt', u.attempt > 0 ? `${u.attempt}${u.delivery ? `, by ${u.delivery}${u.protocol ? ` over ${u.protocol}` : ''}` : ''}` : 'none yet'],
    ['Holds', u.holds.length > 0 ? u.holds.map((o) => h('div', null, name(o.holder), o.reason && [': ', name(o.reason)], o.until && [', until ', until(o.until)])) : null],
    ['Later', u.later ? ['the device showed ', name(u.later.version), ' ', when(u.later.time)] : null],
    ['Labels', Object.keys(u.labels).length > 0 ? Object.entries(u.labels).map(([k, v]) => h('div', null, name(`${k}=${v}`))) : null],
    ['Created', when(u.created)],
    u.outcome ? ['Ended', when(u.ended)] : ['Deadline', until(u.deadline)],
    ['Id', h('code', null, u.id)]))
}
