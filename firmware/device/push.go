package device

import (
	"context"
	"fmt"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// OpenWrite takes the package (5/0/0) as a stream.
func (o *deviceObject) OpenWrite(ctx context.Context, path lwm2m.Path, size int64) (lwm2m.Sink, error) {
	if path != pathPackage {
		return nil, nil
	}
	d := o.device()
	ctx = d.request(ctx)
	d.ops.Lock()
	defer d.ops.Unlock()
	if err := d.boot(ctx); err != nil {
		return nil, err
	}
	return &packageSink{device: d, ctx: context.WithoutCancel(ctx), size: size}, nil
}

// packageSink takes a package that the server pushes. The package begins with the second byte, or
// with a first byte that is not NUL: until then it may be a reset, which is a single NUL or
// nothing.
type packageSink struct {
	device *Device
	ctx    context.Context // of the first block, without its cancellation
	size   int64           // of the package, -1 if it was not announced

	// The following is guarded by ops.
	held     []byte // what came before the package began
	began    bool
	dead     bool // ended, or aborted by a reset
	transfer uint32
	taken    int64
	out      PackageWriter
	failure  error // why a Write failed
}

var errPushEnded = fmt.Errorf("%w: this push was ended", lwm2m.ErrIncomplete)

func (s *packageSink) Write(p []byte) (int, error) {
	s.device.ops.Lock()
	defer s.device.ops.Unlock()
	if err := s.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *packageSink) Commit(context.Context) error {
	s.device.ops.Lock()
	defer s.device.ops.Unlock()
	return s.commit()
}

func (s *packageSink) Abort(err error) {
	s.device.ops.Lock()
	defer s.device.ops.Unlock()
	s.abort(err)
}

func (s *packageSink) write(p []byte) error {
	if s.dead || mayCall(s.ctx) != nil {
		return errPushEnded
	}
	if !s.began {
		if s.held = append(s.held, p...); isReset(s.held) {
			return nil
		}
		p = s.held
		if err := s.begin(); err != nil {
			s.dead = true
			return err
		}
		s.held = nil
	}
	limit := s.device.config.MaxSize
	if s.taken += int64(len(p)); limit > 0 && s.taken > limit {
		s.failure = fmt.Errorf("%w: more than %d bytes", ErrNoStorage, limit)
	} else if _, err := s.out.Write(p); err != nil {
		s.failure = storageError(err)
	}
	return s.failure
}

// begin steps the machine and opens the package.
func (s *packageSink) begin() error {
	d := s.device
	fx, err := d.step(s.ctx, fsm.Input{Kind: fsm.InputPackageBegin, Size: max(s.size, 0)})
	if err != nil {
		return err
	}
	if err := codeError(fx.Code, pathPackage); err != nil {
		return err
	}
	s.began, s.transfer = true, d.snapshot().Transfer
	if limit := d.config.MaxSize; limit > 0 && s.size > limit {
		err = fmt.Errorf("%w: %d bytes, at most %d", ErrNoStorage, s.size, limit)
	} else {
		s.out, err = d.installer.OpenPackage(s.ctx, 0, s.size)
	}
	if err != nil {
		err = storageError(err)
		s.abort(err)
		return err
	}
	d.push = s
	return nil
}

func (s *packageSink) commit() error {
	d, ctx := s.device, s.ctx
	switch {
	case s.dead, mayCall(s.ctx) != nil:
		return errPushEnded
	case !s.began:
		s.dead = true
		fx, err := d.step(ctx, fsm.Input{Kind: fsm.InputReset})
		if err != nil {
			return err
		}
		return codeError(fx.Code, pathPackage)
	}
	if _, err := s.out.Sync(); err != nil {
		err = storageError(err)
		s.abort(err)
		return err
	}
	s.drop()
	fx, err := d.step(ctx, fsm.Input{Kind: fsm.InputPackageEnd, Transfer: s.transfer, Size: s.taken})
	if err != nil {
		return err
	}
	return codeError(fx.Code, pathPackage)
}

// abort ends a push that failed. err determines the Result, unless a Write failed before.
func (s *packageSink) abort(err error) {
	if s.drop(); !s.began || mayCall(s.ctx) != nil {
		return // the next start of the program ends it
	}
	if s.failure != nil {
		err = s.failure
	}
	ev := fsm.Input{Kind: fsm.InputPackageAbort, Transfer: s.transfer, Fault: resultOf(err, fsm.ResultConnectionLost)}
	if _, err := s.device.step(s.ctx, ev); err != nil {
		s.device.log.Error("push not ended", "error", err) // the next start of the program ends it
	}
}

// drop closes the package. The caller holds ops.
func (s *packageSink) drop() {
	s.dead = true
	if s.device.push == s {
		s.device.push = nil
	}
	if s.out != nil {
		if err := s.out.Close(); err != nil {
			s.device.log.Warn("package not closed", "error", err)
		}
		s.out = nil
	}
}
