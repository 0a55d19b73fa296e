// Signing in: what the page does when the API answers 401.

import { serverName, signInPage } from './api.js'
import { h, fill } from './dom.js'

// askForToken asks for the token of an operator, until there is one, or leads to the program's own
// page. wrong says that the token before was refused.
export function askForToken(wrong) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { 'aria-labelledby': 'sign-in-title' })
    if (signInPage) {
      fill(dialog, h('h2', { id: 'sign-in-title' }, 'You are signed out'), h('p', null, h('a', { href: signInPage }, 'Sign in'), ', then come back to this view.'))
    } else {
      const field = h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true, 'aria-describedby': 'token-note' })
      fill(dialog, h('form', {
        method: 'dialog',
        onsubmit: (e) => {
          e.preventDefault()
          dialog.close()
          dialog.remove()
          resolve(field.value.trim())
        },
      },
      h('h2', { id: 'sign-in-title' }, `Sign in to ${serverName}`),
      wrong && h('p', { class: 'refusal', role: 'alert' }, 'The server does not know this token.'),
      h('label', { for: 'token' }, 'Token of an operator'), field,
      h('p', { id: 'token-note', class: 'note' }, 'It stays in this tab until you close it.'),
      h('button', { type: 'submit', class: 'primary' }, 'Sign in')))
    }
    dialog.addEventListener('cancel', (e) => e.preventDefault())
    document.body.append(dialog)
    dialog.showModal()
  })
}
