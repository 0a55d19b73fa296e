//go:build unix && !linux

package bolt_test

import "errors"

func mountTmpfs(string, string) error { return errors.ErrUnsupported }

const refusedMmapFlag = 0
