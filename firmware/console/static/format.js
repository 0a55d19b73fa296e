// How the page writes figures, times and outcomes.

import { h } from './dom.js'

const english = new Intl.NumberFormat('en-US')

// count writes a whole number: 1,024.
export function count(n) {
  return english.format(n)
}

// many writes a number of things: 1 device, 1,024 devices.
export function many(n, one, more = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : more}`
}

// share writes a part of a whole: 12 %, under 1 %.
export function share(part, whole) {
  if (!whole) return '0 %'
  const percent = (100 * part) / whole
  if (percent > 0 && percent < 1) return 'under 1 %'
  if (percent > 99 && percent < 100) return 'over 99 %'
  return `${Math.round(percent)} %`
}

const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']

function unitOf(n) {
  let unit = 0
  while (n >= 1024 * 1.5 && unit < units.length - 1) {
    n /= 1024
    unit++
  }
  return unit
}

function inUnit(n, unit) {
  const value = n / 1024 ** unit
  return unit === 0 || value >= 100 ? count(Math.round(value)) : english.format(Math.round(value * 10) / 10)
}

// bytes writes a size: 512 bytes, 3.1 KiB.
export function bytes(n) {
  const unit = unitOf(n)
  return `${inUnit(n, unit)} ${units[unit]}`
}

// bytesOf writes how much of a size there is, in its unit: 412 of 1,024 KiB.
export function bytesOf(part, whole) {
  const unit = unitOf(whole)
  return `${inUnit(part, unit)} of ${inUnit(whole, unit)} ${units[unit]}`
}

const steps = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]

// span writes a duration in seconds by its two largest units: 1 h 5 min.
export function span(seconds) {
  let left = Math.max(0, Math.round(seconds))
  const parts = []
  for (const [size, unit] of steps) {
    const n = Math.floor(left / size)
    if (n > 0) parts.push(`${n} ${unit}`)
    left -= n * size
    if (parts.length === 2 || (parts.length === 1 && n === 0)) break
  }
  return parts.join(' ') || '0 s'
}

// utc writes a time in full: 2026-01-02 03:04:05 UTC.
export function utc(time) {
  return `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

// relative writes a time from now: 4 min ago, in 26 min.
function relative(date, now) {
  const seconds = Math.round((date - now) / 1000)
  const size = Math.abs(seconds)
  if (size < 1) return 'now'
  const short = size < 60 ? `${size} s` : span(size < 3600 ? Math.floor(size / 60) * 60 : size)
  return seconds < 0 ? `${short} ago` : `in ${short}`
}

// countdown writes the time that is left, to the second in the last hour: in 4 min 12 s.
function countdown(date, now) {
  const seconds = Math.round((date - now) / 1000)
  return seconds > 0 ? `in ${span(seconds)}` : 'any moment now'
}

// when makes a <time> that says how long ago or in how long, and keeps saying it; its title is the
// absolute time. null becomes "never" or the text given.
export function when(time, never = 'never') {
  return timeElement(time, never, 'ago')
}

// until makes a <time> that counts down.
export function until(time, never = 'no time') {
  return timeElement(time, never, 'until')
}

// offset makes a <time> that says how long after a start something was: +7.4 s.
export function offset(time, start) {
  const element = timeElement(time, '', 'offset')
  element.dataset.start = start
  write(element, Date.now())
  return element
}

function timeElement(time, never, kind) {
  if (!time) return h('span', null, never)
  const element = h('time', { datetime: time, title: utc(time), 'data-tick': kind })
  write(element, Date.now())
  return element
}

// absolute says whether times are written in full. The choice stays in this browser.
let absolute = localStorage.getItem('times') === 'utc'

export function timesAreUTC() {
  return absolute
}

export function writeTimes(inUTC) {
  absolute = inUTC
  localStorage.setItem('times', inUTC ? 'utc' : 'relative')
  tick()
}

const relations = {
  ago: relative,
  until: countdown,
  offset: (date, now, element) => {
    const seconds = (date - Date.parse(element.dataset.start)) / 1000
    return `+${seconds < 60 ? `${seconds.toFixed(1)} s` : span(seconds)}`
  },
}

function write(element, now) {
  const date = Date.parse(element.dateTime)
  const relation = relations[element.dataset.tick](date, now, element)
  const text = !absolute ? relation : element.dataset.tick === 'until' ? `${utc(date)}, ${relation}` : utc(date)
  if (element.textContent !== text) element.textContent = text
}

function tick() {
  const now = Date.now()
  for (const element of document.querySelectorAll('time[data-tick]')) write(element, now)
}

// The page's only clock: once a second, while it is seen.
let clock
function watchClock() {
  clearInterval(clock)
  if (document.hidden) return
  tick()
  clock = setInterval(tick, 1000)
}
document.addEventListener('visibilitychange', watchClock)
watchClock()

// Outcomes, and states beside them: a word and a sign; style.css has the colour of out-NAME.
const outcomes = {
  succeeded: ['succeeded', '✓'],
  active: ['active', '▮'],
  waiting: ['waiting', '‖'],
  rolled_back: ['rolled back', '↩'],
  failed: ['failed', '✕'],
  timed_out: ['timed out', '◷'],
  cancelled: ['cancelled', '–'],
  skipped: ['skipped', '–'],
  running: ['running', '▮'],
  paused: ['paused', '‖'],
  stopping: ['stopping', '–'],
  draft: ['draft', '○'],
  ended: ['ended', '✓'],
  registered: ['registered', '●'],
  asleep: ['asleep', '☾'],
  silent: ['silent', '✕'],
  not_registered: ['not registered', '○'],
}

// outcomeNames are the outcomes of updates, in the order in which bars and filters show them.
export const outcomeNames = ['active', 'succeeded', 'rolled_back', 'failed', 'timed_out', 'cancelled']

// outcome makes a colour, a sign and a word; '' is an active update.
export function outcome(value, word) {
  const known = value || 'active'
  const [own, sign] = outcomes[known] ?? [known, '·']
  return h('span', { class: `outcome out-${known}` }, h('span', { class: 'sign', 'aria-hidden': 'true' }, sign), word ?? own)
}

// endings says why updates end: the reasons of the API.
const endings = {
  version: 'the device runs the new version',
  result: 'the device reports success',
  same_version: 'the device reports success, and ran this version before',
  already_running: 'the device ran this version already',
  old_version: 'the device runs its old version again',
  version_mismatch: 'the device runs another version than the image has',
  device_result: 'the device ended it',
  attempts: 'no attempt succeeded',
  refused: 'the device refused it',
  no_delivery: 'there is no way to bring the package to this device',
  not_served: 'the package could not be served to the device',
  no_firmware_object: 'the device has no firmware object that can be used',
  bad_state: 'the device is in a state from which it does not update',
  cannot_prove: 'nothing proves which package the device installed',
  image_damaged: 'the image of this server is damaged',
  incompatible: 'the image is not made for this device',
  operator: 'an operator cancelled it',
  phase_limit: 'one phase took longer than it may',
  deadline: 'its deadline passed',
}

// ending says why an update ended, and what the device reported.
export function ending(u) {
  const reported = u.reported_result && u.outcome !== 'succeeded' ? `, and it reported ${words(u.reported_result.name)}` : ''
  return (endings[u.reason] ?? words(u.reason)) + reported
}

// Names of the API that are no words.
const spelled = {
  out_of_mem: 'out of memory', unsup_fw: 'unsupported package', unsup_proto: 'unsupported protocol', invalid_uri: 'invalid address of the package',
}

// words writes a name of the API such as integrity_failed as words.
export function words(value) {
  return spelled[value] ?? value.replaceAll('_', ' ')
}

// bar makes a still bar of value of total, with text beside it.
export function bar(value, total, text, kind = 'active') {
  const progress = h('progress', { max: String(total || 1), value: String(Math.min(value, total || 1)), 'aria-label': text, class: `out-${kind}` })
  const label = h('span', { class: 'bar-text' }, text)
  const element = h('div', { class: 'bar' }, progress, label)
  element.update = (now, of, says) => {
    progress.max = of || 1
    progress.value = Math.min(now, of || 1)
    progress.setAttribute('aria-label', says)
    if (label.textContent !== says) label.textContent = says
  }
  return element
}

// stack makes a bar of parts {kind, count, word}, in the colours of outcomes, with the figures as
// text below; whole is what the parts are of.
export function stack(parts, whole) {
  const shown = parts.filter((p) => p.count > 0)
  const strip = h('div', { class: 'stack', 'aria-hidden': 'true' })
  for (const part of shown) {
    const piece = h('span', { class: `piece out-${part.kind}` })
    piece.style.flexGrow = String(part.count)
    strip.append(piece)
  }
  const rest = whole - shown.reduce((sum, p) => sum + p.count, 0)
  if (rest > 0) {
    const piece = h('span', { class: 'piece rest' })
    piece.style.flexGrow = String(rest)
    strip.append(piece)
  }
  return h('div', { class: 'stacked' }, strip, h('ul', { class: 'legend' },
    shown.map((p) => h('li', null, outcome(p.kind, p.word), ` ${count(p.count)}`))))
}
