//go:build unix

package pgtest

import (
	"os/exec"
	"syscall"
)

// as makes a command run as the account.
func (s *Server) as(cmd *exec.Cmd) {
	cmd.Dir = s.dir
	if s.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.account.uid), Gid: uint32(s.account.gid)}}
	}
}
