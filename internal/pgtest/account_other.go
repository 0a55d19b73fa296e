//go:build !unix

package pgtest

import "os/exec"

func (s *Server) as(cmd *exec.Cmd) { cmd.Dir = s.dir }
