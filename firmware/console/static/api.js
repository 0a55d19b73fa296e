// The calls of the API, as the page makes them. All that the page shows comes through here.

const meta = (name) => document.querySelector(`meta[name="otago-${name}"]`)?.content ?? ''

// base is the address of the API, without a slash at its end.
export const base = new URL(meta('api'), document.baseURI).href.replace(/\/$/, '')
const elsewhere = new URL(base).origin !== location.origin // a browser does not say why it gets no answer from there
export const serverName = meta('name')
export const signInPage = meta('sign-in')

// A Problem is what a refused or failed request came to. Its message can be shown as it is.
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `the server answered ${status}`)
    this.name = 'Problem'
    this.status = status // 0: there was no answer
    this.kind = (document.type ?? '').split(':').at(-1)
    this.title = document.title ?? ''
    this.field = document.field ?? ''
    this.update = document.update ?? ''
    this.code = document.code ?? ''
  }
}

// A token of the scheme Bearer stays in the memory of this tab.
const token = {
  get: () => sessionStorage.getItem('otago-token'),
  set: (value) => (value ? sessionStorage.setItem('otago-token', value) : sessionStorage.removeItem('otago-token')),
}

let signIn = () => Promise.reject(new Problem(401, { detail: 'the request needs valid credentials' }))

// onUnauthenticated sets what to do about an answer 401: ask(wrong) returns a promise of a token;
// wrong says that the one before was refused.
export function onUnauthenticated(ask) {
  signIn = ask
}

let asking = null
async function credentials(refused) {
  if (refused !== token.get()) return // another request has got a new one meanwhile
  asking ??= signIn(refused !== null).then((value) => token.set(value)).finally(() => { asking = null })
  await asking
}

// hasToken says whether the page sends a token; signOut forgets it.
export const hasToken = () => token.get() !== null
export function signOut() {
  token.set(null)
  location.reload()
}

// path joins segments, each percent-encoded: path('devices', endpoint, 'labels').
export function path(...segments) {
  return segments.map(encodeURIComponent).join('/')
}

// query writes parameters; those with '', null, undefined and false are left out, a list repeats its
// name. An empty parameter that is wanted is [''].
export function query(parameters) {
  const list = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : value === '' ? [] : [value]) {
      if (one !== null && one !== undefined && one !== false) list.append(name, one)
    }
  }
  const text = list.toString()
  return text && `?${text}`
}

// fetchAPI makes one request, again after a sign-in if the API asks for it.
async function fetchAPI(address, options) {
  for (;;) {
    const used = token.get()
    const headers = { Accept: 'application/json', ...options.headers }
    if (used !== null) headers.Authorization = `Bearer ${used}`
    let response
    try {
      response = await fetch(`${base}/${address}`, { ...options, headers, credentials: 'include', cache: 'no-store', redirect: 'error' })
    } catch (error) {
      if (error.name === 'AbortError') throw error
      noteConnection(false)
      throw new Problem(0, { detail: elsewhere ? `the server does not answer, or it does not trust pages of ${location.origin} (TrustedOrigins)` : 'the server does not answer' })
    }
    if (response.status === 401) {
      const problem = await problemOf(response)
      if (!/^bearer/i.test(response.headers.get('WWW-Authenticate') ?? 'Bearer') && !signInPage) throw problem
      await credentials(used)
      continue
    }
    if (!response.ok) throw await problemOf(response)
    return response
  }
}

async function problemOf(response) {
  let document = {}
  try {
    document = await response.json()
  } catch {
    // not a problem document: a proxy's page, perhaps
  }
  return new Problem(response.status, document)
}

async function answer(response) {
  if (response.status === 204) return null
  return response.json()
}

// get reads a JSON answer. options: signal.
export async function get(address, options = {}) {
  return answer(await fetchAPI(address, options))
}

// list reads up to limit items of a list from a cursor on. Where a filter selects few of many
// records the server ends a page early: list then goes on, for at most so many pages. It returns
// {items, next}, as one page does. After each page but the last it calls more(items) with what it has.
export async function list(address, parameters, { limit = 50, pages = 20, signal, more } = {}) {
  const items = []
  let { cursor } = parameters
  for (let i = 0; i < pages && items.length < limit; i++) {
    const page = await get(address + query({ ...parameters, cursor, limit: limit - items.length }), { signal })
    items.push(...page.items)
    cursor = page.next
    if (!cursor) break
    more?.(items)
  }
  return { items, next: cursor }
}

// send makes a request that changes something; body is sent as JSON unless it is undefined. It
// returns the answer, null if there is none. options: signal, headers.
export async function send(method, address, body, options = {}) {
  const headers = { ...options.headers }
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  return answer(await fetchAPI(address, { ...options, method, headers, body: body === undefined ? undefined : JSON.stringify(body) }))
}

// upload sends bytes, and calls progress(sent, total) meanwhile. fetch does not tell how much it has
// sent, XMLHttpRequest does.
export async function upload(address, blob, progress, signal) {
  await get('images?limit=1', { signal }) // signs in before the bytes go
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open('POST', `${base}/${address}`)
    request.withCredentials = true
    request.setRequestHeader('Content-Type', 'application/octet-stream')
    if (token.get() !== null) request.setRequestHeader('Authorization', `Bearer ${token.get()}`)
    request.upload.addEventListener('progress', (e) => progress(e.loaded, e.total))
    request.addEventListener('load', () => {
      let document = {}
      try {
        document = JSON.parse(request.responseText)
      } catch {
        // not JSON: a proxy's page, perhaps
      }
      if (request.status < 300) resolve(document)
      else reject(new Problem(request.status, document))
    })
    request.addEventListener('error', () => reject(new Problem(0, { detail: 'the connection broke before the whole image was sent' })))
    request.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')))
    signal?.addEventListener('abort', () => request.abort())
    request.send(blob)
  })
}

// The state of the connection: shown by app.js.
const watchers = new Set()
export function onConnection(watcher) {
  watchers.add(watcher)
}
function noteConnection(up, retryAt) {
  for (const watcher of watchers) watcher(up, retryAt)
}

const waits = [1, 2, 4, 8, 15] // seconds between two tries

// follow opens an event stream, and opens it again whenever it breaks. handlers: event(data, type)
// for each event; begun() each time that the stream begins, so that the view reads what it may have
// missed; ended(problem) when the API refuses the stream. It stops when signal aborts, and pauses
// while the page is hidden: browsers allow few connections to one host. parameters are those of the
// call.
export async function follow(address, parameters, handlers, signal) {
  let tries = 0
  while (!signal.aborted) {
    if (document.hidden) {
      await shown(signal)
      continue
    }
    const current = new AbortController()
    const stop = () => current.abort()
    signal.addEventListener('abort', stop)
    document.addEventListener('visibilitychange', stop)
    try {
      await read(address, parameters, handlers, current, () => { tries = 0 })
    } catch (error) {
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) {
        handlers.ended?.(error)
        return
      }
      if (error.name !== 'AbortError' && error.name !== 'TypeError' && !(error instanceof Problem)) console.error(error)
    } finally {
      signal.removeEventListener('abort', stop)
      document.removeEventListener('visibilitychange', stop)
      current.abort()
    }
    if (signal.aborted || document.hidden) continue
    const wait = waits[Math.min(tries++, waits.length - 1)] * 1000
    noteConnection(false, Date.now() + wait)
    await sleep(wait, signal)
  }
}

// read reads one event stream to its end.
async function read(address, parameters, handlers, current, began) {
  const response = await fetchAPI(address + query(parameters), { headers: { Accept: 'text/event-stream' }, signal: current.signal })
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  began()
  noteConnection(true)
  handlers.begun?.()
  let rest = ''
  let silence
  try {
    for (;;) {
      clearTimeout(silence)
      silence = setTimeout(() => current.abort(), 45_000) // the server sends a comment every 15 s
      const { value, done } = await reader.read()
      if (done) return
      const blocks = (rest + value).split('\n\n')
      rest = blocks.pop()
      for (const block of blocks) dispatch(block, handlers)
    }
  } finally {
    clearTimeout(silence)
  }
}

function dispatch(block, handlers) {
  let type = 'update' // lines of updates have no name
  let data = ''
  for (const line of block.split('\n')) {
    if (line.startsWith('event: ')) type = line.slice(7)
    else if (line.startsWith('data: ')) data += line.slice(6)
  }
  if (!data || type === 'begin') return
  if (type === 'gap') handlers.begun?.()
  else handlers.event?.(JSON.parse(data), type)
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      window.removeEventListener('online', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener('abort', end)
    window.addEventListener('online', end)
  })
}

function shown(signal) {
  return new Promise((resolve) => {
    const check = () => {
      if (document.hidden && !signal.aborted) return
      document.removeEventListener('visibilitychange', check)
      signal.removeEventListener('abort', check)
      resolve()
    }
    document.addEventListener('visibilitychange', check)
    signal.addEventListener('abort', check)
  })
}

// throttle returns a function that calls work at most once every ms, and at the end once more for
// calls that came meanwhile. It does not call work while the one before runs.
export function throttle(work, ms) {
  let due = false
  let busy = false
  return async function again() {
    due = true
    if (busy) return
    busy = true
    while (due) {
      due = false
      try {
        await work()
      } catch (error) {
        if (error.name !== 'AbortError' && !(error instanceof Problem)) console.error(error)
      }
      await new Promise((resolve) => setTimeout(resolve, ms))
    }
    busy = false
  }
}
