// The timeline of a journal: one line an event, attempts grouped, what this server did and what the
// device showed apart, values that were read as before -> after.

import { h, name, keyed } from './dom.js'
import { offset, when, words } from './format.js'

// Events by who acts: those of the device, and those that begin an attempt. All others are the
// server's or an operator's.
const ofDevice = new Set([
  'registered', 'restarting', 'read', 'read_failed', 'object_unusable', 'version_trimmed', 'settling', 'uri_accepted', 'uri_refused', 'uri_unanswered',
  'download_requested', 'connection_failed', 'package_fetched', 'push_accepted', 'push_refused', 'push_too_large', 'push_broken', 'block_refused',
  'device_busy', 'device_silent', 'device_answers', 'transfer_started', 'execute_accepted', 'execute_refused', 'execute_unanswered', 'deferred',
  'auto_upgrade', 'after_end', 'later',
])
const beginsAttempt = new Set(['write_uri', 'push'])
const ends = new Set(['succeeded', 'rolled_back', 'failed', 'cancelled', 'timed_out'])

// journal makes a timeline; show(lines, start) brings it up to date. With a start the times are those
// since then.
export function journal() {
  const element = h('ol', { class: 'journal' })
  return {
    element,
    show(lines, start) {
      let attempt = 0
      const items = lines.map((line, i) => {
        if (beginsAttempt.has(line.event)) attempt++
        return { ...line, start, first: i === 0, key: line.seq ?? i, attempt: beginsAttempt.has(line.event) ? attempt : 0 }
      })
      changes(items)
      keyed(element, items, (item) => item.key, draw)
    },
  }
}

function draw(line) {
  if (line.damaged) return h('li', null, h('span'), h('span', null, `This line is damaged: ${line.damaged}`))
  const device = ofDevice.has(line.event)
  const kind = ends.has(line.event) ? `end out-${line.event}` : device ? 'device' : 'server'
  return h('li', { class: kind },
    line.start && !line.first ? offset(line.time, line.start) : when(line.time),
    h('div', null,
      line.attempt > 0 && h('span', { class: 'attempt' }, `Attempt ${line.attempt}`),
      h('div', { class: 'said' },
        h('span', { class: 'whose' }, device ? 'device ' : 'server '),
        h('span', { class: 'event' }, words(line.event)),
        line.endpoint && [' ', name(line.endpoint)], line.actor && [' by ', name(line.actor)],
        line.detail && [': ', detail(line)])))
}

// parts of what a read showed, as the journal writes them: state idle, result default, version "1.0".
const shown = /(state|result|version) ("(?:[^"\\]|\\.)*"|[^\s,;]+)/g

// changes adds to each line of a read what the read before had shown.
function changes(lines) {
  const before = new Map()
  for (const line of lines) {
    if (line.event !== 'read') continue
    line.before = Object.fromEntries(before)
    for (const [, what, value] of line.detail.matchAll(shown)) before.set(what, value)
  }
}

function detail({ event, detail: text, before }) {
  if (event !== 'read') return name(text)
  const parts = []
  let last = 0
  for (const match of text.matchAll(shown)) {
    const [, what, value] = match
    const old = before[what]
    parts.push(name(text.slice(last, match.index)), `${what} `, old !== undefined && old !== value
      ? h('span', { class: 'change' }, h('del', null, name(old)), ' → ', h('ins', null, name(value))) : name(value))
    last = match.index + match[0].length
  }
  parts.push(name(text.slice(last)))
  return parts
}
