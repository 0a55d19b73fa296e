// How the server is: what does not work as it should, and whom the server has refused.

import { Problem, get } from './api.js'
import { h, fill, link, name, table } from './dom.js'
import { count, when } from './format.js'

const fresh = 2000 // ms for which one answer serves all that ask
const pause = 15_000 // ms between two looks
const shown = 4 // troubles above each view

let answer = null
let asked = 0

// status reads how the server is; null if the operator may not know it.
export function status() {
  if (answer && Date.now() - asked < fresh) return answer
  asked = Date.now()
  answer = get('status').catch((error) => {
    if (error instanceof Problem) return null
    throw error
  })
  return answer
}

// watchTrouble keeps the lines above each view that say what does not work, and what to do.
export function watchTrouble(element) {
  const look = async () => {
    if (document.hidden || !document.getElementById('connection').hidden) return
    const now = await status()
    const list = now?.degraded ?? []
    const state = JSON.stringify(list)
    if (!now || element.dataset.state === state) return
    element.dataset.state = state
    element.hidden = list.length === 0
    fill(element, list.slice(0, shown).map((d) => h('p', null, h('b', null, name(d.why)), ' Since ', when(d.since), '. ', name(d.todo))),
      list.length > shown && h('p', null, `${count(list.length - shown)} more are in the status of the API.`))
  }
  setInterval(look, pause)
  document.addEventListener('visibilitychange', look)
  look()
}

const host = (address) => address.replace(/:[0-9]+$/, '')

// refusalsOf finds the refusals that concern a device: those of its name, and while it is not heard
// those of the host where it was, if the sender came by the same transport and named nothing.
export function refusalsOf(now, endpoint, device) {
  const at = device?.address && device.state !== 'registered' ? host(device.address) : ''
  return (now?.refusals ?? []).filter((r) => r.endpoint === endpoint || r.identity === endpoint || (r.endpoint === '' && r.identity === '' && at && host(r.address) === at && r.transport === device.transport))
}

// recent are refusals of the last hour.
export function recent(refusals) {
  return refusals.filter((r) => Date.now() - Date.parse(r.last) < 3_600_000)
}

// What is wrong, and what to do, by a part of the reason.
const meanings = [
  [/unknown PSK identity/, 'This server has no key of that identity: give the server the key, or the device its right identity.'],
  [/keys differ/, 'The key of the device and that of this server differ: put the right one into the one that is wrong.'],
  [/does not belong to the credentials/, 'Its key or certificate is that of another device: correct its name, or for which device the key is.'],
  [/not known any more|not belong to the credentials any more/, 'Its key was taken away from this server: put it in again, if that was a mistake.'],
  [/peer sent alert: .*(certificate|unknown ca|unknown authority|expired)/i, 'The device does not trust the certificate of this server: it needs the right authority and a right clock, or the certificate has ended.'],
  [/expired|not yet valid/, 'The certificate of the device is not valid now: give the device a new one, and look at the clock of this server.'],
  [/certificate signed by unknown authority/, 'The certificate of the device is not from an authority that this server trusts: give the device another one, or this server the authority.'],
  [/certificate/, 'The certificate of the device is not what this server takes.'],
  [/not stored|cannot be verified at present/, 'This server could not decide: it is not the fault of the device, which tries again.'],
]

// whyRefused says what is wrong and what to do, and the reason as the server logs it.
export function whyRefused(r) {
  const meaning = meanings.find(([pattern]) => pattern.test(r.reason))?.[1]
  return meaning ? [meaning, h('span', { class: 'note' }, [' ', name(r.reason)])] : name(r.reason)
}

const claimed = (r) => r.endpoint || r.identity
const viewOf = (r) => (claimed(r) ? `#/devices/${encodeURIComponent(claimed(r))}` : null)

// refusalTable makes a table of refusals; show(list) fills it.
export function refusalTable() {
  return table([
    { title: 'Device', of: (r) => r.endpoint, cell: (r) => [claimed(r) ? link(viewOf(r), name(claimed(r))) : ['one at ', name(host(r.address))], r.endpoint && r.identity && r.identity !== r.endpoint && h('span', { class: 'note' }, [' with the credentials of ', name(r.identity)])] },
    { title: 'Why', class: 'why', of: (r) => r.reason, cell: whyRefused },
    { title: 'Refused', class: 'nowrap', of: (r) => r.what, cell: (r) => r.what },
    { title: 'Times', class: 'figure', of: (r) => r.count, cell: (r) => count(r.count) },
    { title: 'Last', class: 'nowrap', of: (r) => r.last, cell: (r) => when(r.last) },
    { title: 'From', class: 'nowrap', of: (r) => [host(r.address), r.transport], cell: (r) => `${r.transport} ${host(r.address)}` },
  ], { key: (r) => [r.what, r.endpoint, r.identity, claimed(r) ? '' : host(r.address) + r.reason].join(' '), href: viewOf, label: 'Refused devices' })
}

// refusedSentence says of a device that it was refused, for views whose device waits.
export function refusedSentence(refusals, device) {
  const last = refusals[0]
  if (!last) return null
  const since = device?.last_seen && Date.parse(device.last_seen) > Date.parse(last.last)
  return h('p', { class: since ? 'note' : 'warning' }, 'This server has refused ', claimed(last) ? 'it' : 'a device at its address', ' ',
    last.count > 1 && `${count(last.count)} times, the last time `, when(last.last), ': ', whyRefused(last), since && ' It was heard since.')
}
