// The frame of the page: addresses, navigation, search, the line about the connection, keys.
//
// A view is a module with
//
//	export const title = 'Updates'
//	export async function show(context)
//
// where context has
//
//	root      the element that the view fills, below its heading
//	params    what the braces of its address stood for
//	query     URLSearchParams of its address
//	signal    aborts when the page leaves the view
//	sentence(...)         sets the first line
//	heading(...)          replaces the title above it
//	go(changes, replace)  changes filters in the address: {outcome: 'failed', cursor: null}
//	live(parameters, {event, begun})  opens the event stream for the view; with counts: true in the
//	                                  handlers it also gets the events of the navigation's counts
//	act(button, work)     does what a button says, and shows a refusal beside it
//
// and may throw a Problem: the frame then shows it.

import * as api from './api.js'
import { h, fill, text } from './dom.js'
import { count, span, timesAreUTC, writeTimes } from './format.js'
import { startSearch } from './search.js'
import { askForToken } from './signin.js'
import { watchTrouble } from './status.js'
import * as device from './views/device.js'
import * as fleet from './views/fleet.js'
import * as images from './views/images.js'
import * as newRollout from './views/rollout-new.js'
import * as rollout from './views/rollout.js'
import * as rollouts from './views/rollouts.js'
import * as update from './views/update.js'
import * as updates from './views/updates.js'

const routes = [
  ['fleet', fleet, 'fleet'],
  ['devices/{endpoint}', device, 'fleet'],
  ['updates', updates, 'updates'],
  ['updates/{update}', update, 'updates'],
  ['rollouts', rollouts, 'rollouts'],
  ['rollouts/new', newRollout, 'rollouts'],
  ['rollouts/{id}', rollout, 'rollouts'],
  ['images', images, 'images'],
]

const places = [
  ['fleet', 'Fleet'],
  ['updates', 'Updates'],
  ['rollouts', 'Rollouts'],
  ['images', 'Images'],
]

const main = document.getElementById('main')
let leave = new AbortController()

// parse splits an address such as #/devices/a%2Fb?x=y into segments and query.
function parse(hash) {
  const [at, search = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s)
  let segments
  try {
    segments = at.split('/').map(decodeURIComponent)
  } catch {
    segments = ['?']
  }
  return { segments: segments[0] === '' ? ['fleet'] : segments, query: new URLSearchParams(search) }
}

function match(segments) {
  for (const [pattern, view, place] of routes) {
    const parts = pattern.split('/')
    if (parts.length !== segments.length) continue
    const params = {}
    if (parts.every((p, i) => (p[0] === '{' ? ((params[p.slice(1, -1)] = segments[i]), segments[i] !== '') : p === segments[i]))) {
      return { view, place, params }
    }
  }
  return null
}

let shownPath = null

async function route() {
  const { segments, query } = parse(location.hash)
  const found = match(segments)
  leave.abort()
  leave = new AbortController()
  const { signal } = leave
  const path = segments.join('/')
  const moved = path !== shownPath
  shownPath = path

  const title = h('h1', { tabindex: '-1' }, found?.view.title ?? 'Not found')
  const sentence = h('p', { class: 'sentence' })
  const root = h('div', { class: 'view' })
  // The frame of the view replaces the one before at once if the view is another one, and else when
  // there is something to show: filters do not make the page flicker.
  const swap = () => { if (title.parentNode !== main && !signal.aborted) fill(main, title, sentence, root) }
  if (moved) swap()
  setPlace(found?.place)
  document.title = `${found?.view.title ?? 'Not found'} · ${api.serverName}`
  if (!found) {
    swap()
    fill(sentence, 'There is no such view.')
    return
  }
  const context = {
    root, params: found.params, query, signal,
    sentence: (...content) => { swap(); fill(sentence, ...content) },
    heading: (...content) => {
      fill(title, ...content)
      document.title = `${title.textContent} · ${api.serverName}`
    },
    go: (changes, replace) => go(segments, query, changes, replace),
    live: (parameters, handlers) => live(parameters, handlers, signal),
    act,
  }
  if (moved && document.activeElement !== document.getElementById('search-field')) title.focus({ preventScroll: true })
  if (moved) window.scrollTo(0, 0)
  streamAsked = false
  try {
    await found.view.show(context)
  } catch (error) {
    if (signal.aborted || error.name === 'AbortError') return
    swap()
    leave.abort() // the view must not write into the problem when its stream is back
    leave = new AbortController()
    showProblem(context, error)
    const { signal: waits } = leave
    const retry = () => setTimeout(() => { if (!waits.aborted) route() }, retryAfter)
    live({}, error.status === 0 || error.status === 503 ? { begun: retry } : {}, waits)
  }
  if (!signal.aborted && !streamAsked) live({}, {}, signal)
  countImages()
}

// A view that the server could not answer is read again so long after a stream has begun.
const retryAfter = 1000 // milliseconds

// showProblem is the first line of a view that cannot be shown.
function showProblem(context, error) {
  if (!(error instanceof api.Problem)) console.error(error)
  context.sentence(error instanceof api.Problem && error.status === 404 ? 'There is no such thing (any more): ' : 'This could not be read: ', error.message, '.')
  fill(context.root, h('p', null, h('button', { type: 'button', onclick: route }, 'Try again')))
}

function go(segments, query, changes, replace) {
  const next = new URLSearchParams(query)
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name)
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== '') next.append(name, one)
    }
  }
  const text = next.toString()
  const hash = `#/${segments.map(encodeURIComponent).join('/')}${text && `?${text}`}`
  if (replace) {
    history.replaceState(null, '', hash)
    route()
  } else {
    location.hash = hash
  }
}

// act runs the work of a button, which stays disabled meanwhile. A refusal is shown beside it.
async function act(button, work) {
  const note = button.parentElement.querySelector(':scope > .refusal') ?? h('p', { class: 'refusal', role: 'alert' })
  note.remove()
  button.disabled = true
  try {
    return await work()
  } catch (error) {
    if (error.name === 'AbortError') return undefined
    if (!(error instanceof api.Problem)) console.error(error)
    fill(note, error.message)
    button.after(note)
    return undefined
  } finally {
    button.disabled = false
  }
}

// The event stream: one for the page, with the counts of the navigation and what the view asks for.

let streamAsked = false

function live(parameters, handlers, signal) {
  streamAsked = true
  const kinds = new Set((parameters.kinds ?? '').split(',').filter(Boolean))
  kinds.add('counts')
  api.follow('events', { ...parameters, kinds: [...kinds].join(','), after: 'end' }, {
    begun: () => handlers.begun?.(),
    event: (data, type) => {
      if (type === 'counts') setCounts(data)
      if (type !== 'counts' || handlers.counts) handlers.event?.(data, type)
    },
    ended: (problem) => connectionSays(`No live changes: ${problem.message}.`),
  }, signal)
}

// Navigation.

const nav = document.getElementById('nav')
const numbers = {}
for (const [place, word] of places) {
  numbers[place] = h('span', { class: 'number' })
  nav.append(h('a', { href: `#/${place}`, 'data-place': place }, h('span', null, word), numbers[place]))
}

function setPlace(place) {
  for (const a of nav.children) {
    if (a.dataset.place === place) a.setAttribute('aria-current', 'page')
    else a.removeAttribute('aria-current')
  }
}

function setNumber(place, n, title) {
  text(numbers[place], n === null ? '' : count(n))
  numbers[place].title = title
}

function setCounts(c) {
  setNumber('fleet', c.devices.all, 'devices')
  setNumber('updates', c.updates.active ?? 0, 'active updates')
  setNumber('rollouts', Object.values(c.rollouts).reduce((a, b) => a + b, 0), 'rollouts that have not ended')
}

// Images have no events: their number is read now and then.
const countImages = api.throttle(async () => {
  const page = await api.get('images?limit=1000')
  text(numbers.images, `${count(page.items.length)}${page.next ? '+' : ''}`)
}, 5000)
document.addEventListener('images', countImages) // a view has uploaded or deleted one

// The line about the connection.

const connection = document.getElementById('connection')
let retryAt = null
let ticking

function connectionSays(line) {
  connection.hidden = line === ''
  text(connection, line)
}

api.onConnection((up, at) => {
  clearInterval(ticking)
  if (up) {
    if (retryAt !== null) connectionSays('')
    retryAt = null
    return
  }
  retryAt = at ?? retryAt ?? Date.now()
  const says = () => {
    const left = Math.ceil((retryAt - Date.now()) / 1000)
    connectionSays(left > 0 ? `Connection lost, trying again in ${span(left)}. What you see may be old.` : 'Connection lost, trying now. What you see may be old.')
  }
  says()
  ticking = setInterval(says, 500)
})

// Keys: / to search, j and k from row to row, Enter follows the focused link as links do.

document.addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing || e.target.closest?.('input, textarea, select, dialog')) return
  if (e.key === '/') {
    e.preventDefault()
    document.getElementById('search-field').focus()
  } else if (e.key === 'j' || e.key === 'k') {
    step(e.key === 'j' ? 1 : -1)
  }
})

function step(by) {
  const rows = [...main.querySelectorAll('[data-href]')]
  if (rows.length === 0) return
  const at = rows.indexOf(document.activeElement.closest('[data-href]'))
  const row = rows[Math.min(rows.length - 1, Math.max(0, at + (at < 0 ? 1 : by)))]
  const to = row.querySelector('a[href]')
  to?.focus()
  row.scrollIntoView({ block: 'nearest' })
}

// A click beside the link of a row follows it too, unless it selects text.
main.addEventListener('click', (e) => {
  const row = e.target.closest('[data-href]')
  if (!row || e.defaultPrevented || e.target.closest('a, button, input, select, label, summary') || !getSelection().isCollapsed) return
  location.hash = row.dataset.href
})

// The link to the view itself must not change the address.
document.getElementById('skip').addEventListener('click', (e) => {
  e.preventDefault()
  main.focus()
})

// The foot.

const times = h('button', { type: 'button', class: 'quiet' })
function sayTimes() {
  text(times, timesAreUTC() ? 'Times: UTC' : 'Times: relative')
  times.setAttribute('aria-pressed', String(timesAreUTC()))
}
times.addEventListener('click', () => {
  writeTimes(!timesAreUTC())
  sayTimes()
})
sayTimes()
const signOut = h('button', { type: 'button', class: 'quiet', onclick: () => api.signOut() }, 'Sign out')
fill(document.getElementById('foot'), times, signOut, h('a', { href: `${api.base}/docs` }, 'The API'), h('span', { class: 'keys' }, h('kbd', null, '/'), ' search  ', h('kbd', null, 'j'), ' ', h('kbd', null, 'k'), ' rows  ', h('kbd', null, 'Enter'), ' opens'))
signOut.hidden = !api.hasToken()

startSearch()
api.onUnauthenticated(askForToken)
window.addEventListener('hashchange', route)
route().then(() => { signOut.hidden = !api.hasToken() })
watchTrouble(document.getElementById('trouble'))
