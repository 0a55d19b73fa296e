// The trace of a device: its CoAP messages as they come and go, for a bounded time.

import { Problem, follow, get, send } from './api.js'
import { h, fill, name } from './dom.js'
import { bytes, count, many, offset, until } from './format.js'

const seconds = 300
const most = 500 // messages that are shown

// trace makes the part of a view with the trace of a device.
export function trace({ act, signal }, at) {
  const place = `${at}/trace`
  const says = h('p', { class: 'note', role: 'status' })
  const list = h('ol', { class: 'trace' })
  const buttons = h('div', { class: 'acts' })
  let seen = 0
  let following = null

  const start = h('button', { type: 'button', onclick: () => act(start, async () => {
    show(await send('POST', place, { seconds, messages: most }))
  }) }, 'Trace its messages for 5 min: each CoAP message is shown here, also what they contain')
  const stop = h('button', { type: 'button', onclick: () => act(stop, async () => {
    await send('DELETE', place)
    following?.abort()
    fill(says, `Stopped, after ${many(seen, 'message')}.`)
    fill(buttons, start)
  }) }, 'Stop the trace')

  function show(document) {
    following?.abort()
    fill(list)
    seen = 0
    for (const message of document.messages ?? []) add(message, document.started)
    if (document.ended) {
      end(document)
      return
    }
    fill(buttons, stop)
    fill(says, 'The trace ends ', until(document.until), '. What the device sends and gets comes here.')
    following = new AbortController()
    signal.addEventListener('abort', () => following.abort())
    follow(place, {}, {
      event: (data, type) => {
        if (type === 'end') {
          following.abort()
          end(data)
        } else {
          add(data, document.started)
        }
      },
      ended: (problem) => fill(says, problem.message),
    }, following.signal)
  }

  function end(document) {
    fill(buttons, start)
    fill(says, `The trace has ended${document.end_reason ? `: ${document.end_reason}` : ''}, with ${many(seen, 'message')}`,
      document.left_out > 0 && `; ${count(document.left_out)} more were left out`, '.')
  }

  function add(message, started) {
    if (message.n <= seen) return
    seen = message.n
    list.append(draw(message, started))
    while (list.childElementCount > most) list.firstElementChild.remove()
  }

  const element = h('details', null, h('summary', null, 'Messages of this device'), h('div', null, buttons, says, list))
  element.addEventListener('toggle', () => {
    if (!element.open || buttons.hasChildNodes()) return
    get(place, { signal }).then(show, (error) => {
      if (error instanceof Problem && error.status !== 404) fill(says, error.message)
      fill(buttons, start)
    })
  })
  return element
}

function draw(m, started) {
  const out = m.direction === 'out'
  const options = (m.options ?? []).map((o) => `${o.name}: ${o.value}`).join(', ')
  return h('li', { class: out ? 'out' : 'in' },
    offset(m.time, started),
    h('div', { class: 'said' },
      h('span', { class: 'whose' }, out ? 'server → ' : 'device → '),
      h('span', { class: 'event' }, `${m.code} `, name(m.name ?? '')),
      m.kind !== 'message' && h('strong', null, ` ${m.kind}`),
      h('span', { class: 'muted' }, ` ${m.type ? `${m.type}, ` : ''}id ${m.message_id}${m.token ? `, token ${m.token}` : ''}, ${bytes(m.bytes)}, ${m.transport} `, name(m.remote)),
      options && h('div', null, name(options)),
      m.note && h('div', null, name(m.note)),
      m.payload && h('pre', null, name(m.payload), m.cut && h('span', { class: 'muted' }, ' (cut)'))))
}
