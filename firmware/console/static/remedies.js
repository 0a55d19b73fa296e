// What can be done about an update that went wrong.

// By the result that the device reported.
const results = {
  no_storage: 'The image does not fit into its flash: make it smaller, or take the one for this hardware.',
  out_of_mem: 'It had no memory left: restart the device, and start again.',
  connection_lost: 'Look at its network, and start again.',
  integrity_failed: 'The bytes are not what the device expects: upload the image again from its source, and look with which key it was signed.',
  unsup_fw: 'It does not take this kind of package: take the format of this device.',
  invalid_uri: 'It does not understand the address of the package, which is in the journal.',
  update_failed: 'Look at the log of the device.',
  unsup_proto: 'It does not know the protocol: start with another one.',
  conflicting_state: 'Another component of the device was being updated: start again.',
  dependency_error: 'Install the package first that this one needs.',
}

// By the reason why it ended.
const reasons = {
  old_version: 'The new firmware did not start, or could not register: look at the log of the device before you repeat it.',
  version_mismatch: 'Most often the image was uploaded with another version than its firmware shows in 3/0/3.',
  attempts: 'The journal says why each attempt failed.',
  refused: 'The journal has the answer of the device: look at its access control.',
  no_delivery: 'Start it without a choice of delivery and protocol.',
  not_served: 'Open an address of the server for a protocol that the device takes.',
  no_firmware_object: 'The firmware of the device must list /5/0 when it registers.',
  bad_state: 'The firmware of the device shows a state that does not exist.',
  cannot_prove: 'Remove the package that the device holds, and start again.',
  image_damaged: 'Upload the same bytes again, which repairs the image, and start again.',
  incompatible: 'Take the image for this device.',
  phase_limit: 'The last line of the journal says in which phase.',
  deadline: 'Often the device was away: start again when it is back.',
}

// remedy is a sentence, or nothing.
export function remedy(u) {
  return ` ${(u.reason === 'device_result' && results[u.reported_result?.name]) || reasons[u.reason] || ''}`.trimEnd()
}

// remedyOf is the same for a group of failures of a rollout.
export function remedyOf(group) {
  return (group.reason === 'device_result' && results[group.result]) || reasons[group.reason] || ''
}
