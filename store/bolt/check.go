package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// A bbolt file is pages with a header each. The first two are meta pages, which commits write in
// turn, so that one is good if a crash leaves the other incomplete. Numbers have the byte order of
// the machine.
const (
	headerSize = 16 // id uint64, flags uint16, count uint16, overflow uint32
	metaSize   = 64

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	branchPage, leafPage, freelistPage = 1, 2, 16

	noFreelist = ^uint64(0)

	minPage, maxPage = 1 << 10, 1 << 24 // the sizes at which bbolt looks for a second meta page
)

var order = binary.NativeEndian

// checkTwice checks a file before it is locked. Another process may write it meanwhile, so that
// only a second failure counts.
func checkTwice(f *os.File) error {
	err := check(f)
	if errors.Is(err, ErrDamaged) {
		err = check(f)
	}
	return err
}

// check checks that all pages that bbolt will follow are within the file. bbolt reads them in
// mapped memory, and reading beyond the end of a file there ends the process.
func check(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is not a regular file", ErrDamaged)
	case info.Size() == 0:
		return fmt.Errorf("%w: it is empty", ErrDamaged)
	}
	m, err := newestMeta(f, info.Size())
	if err != nil {
		return err
	}
	// A file grows before its meta page says so, so ask for its size now.
	if info, err = f.Stat(); err != nil {
		return err
	}
	if have := uint64(info.Size()) / m.pageSize; have < m.pages {
		return fmt.Errorf("%w: it is cut: it has %d bytes of %d", ErrDamaged, info.Size(), m.pages*m.pageSize)
	}
	if _, err := m.page(f, m.root, branchPage|leafPage); err != nil {
		return err
	}
	if m.freelist == noFreelist {
		return nil
	}
	return m.checkFreelist(f)
}

// hasFreelist reports whether a file has a list of its free pages.
func hasFreelist(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	m, err := newestMeta(f, info.Size())
	return m.freelist != noFreelist, err
}

// meta is the content of a meta page.
type meta struct{ pageSize, root, freelist, pages, txid uint64 }

// newestMeta returns the meta page that bbolt will use.
func newestMeta(f io.ReaderAt, size int64) (meta, error) {
	first, err := readMeta(f, 0)
	second, err2 := meta{}, err
	if err == nil {
		second, err2 = readMeta(f, int64(first.pageSize))
	} else {
		for at := int64(minPage); at <= maxPage && at < size; at *= 2 {
			if second, err2 = readMeta(f, at); err2 == nil {
				break
			}
		}
	}
	switch {
	case err != nil && err2 != nil:
		return meta{}, err
	case err != nil || err2 == nil && second.txid > first.txid:
		first = second
	}
	if uint64(size) < 2*first.pageSize {
		return meta{}, fmt.Errorf("%w: it is cut: it has %d bytes, less than two pages", ErrDamaged, size)
	}
	return first, nil
}

func readMeta(f io.ReaderAt, at int64) (meta, error) {
	b := make([]byte, metaSize)
	if _, err := f.ReadAt(b, at+headerSize); err != nil {
		if errors.Is(err, io.EOF) {
			return meta{}, fmt.Errorf("%w: it ends before its first records", ErrDamaged)
		}
		return meta{}, err
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56])
	m := meta{
		pageSize: uint64(order.Uint32(b[8:])), root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), txid: order.Uint64(b[48:]),
	}
	switch {
	case order.Uint32(b) != metaMagic:
		return m, fmt.Errorf("%w: it does not begin as a bbolt file does", ErrDamaged)
	case order.Uint32(b[4:]) != metaVersion:
		return m, fmt.Errorf("%w: another version of bbolt wrote it: format %d, this one takes only %d", ErrDamaged, order.Uint32(b[4:]), metaVersion)
	case order.Uint64(b[56:]) != sum.Sum64():
		return m, fmt.Errorf("%w: the checksum at its beginning is wrong", ErrDamaged)
	case m.pageSize < minPage || m.pageSize > maxPage || m.pageSize&(m.pageSize-1) != 0:
		return m, fmt.Errorf("%w: pages of %d bytes", ErrDamaged, m.pageSize)
	}
	return m, nil
}

// page returns a page that must have one of the kinds and be within the file.
func (m meta) page(f io.ReaderAt, id uint64, kinds uint16) ([]byte, error) {
	damaged := func() error { return fmt.Errorf("%w: page %d is not what the file's beginning says", ErrDamaged, id) }
	if id < 2 || id >= m.pages {
		return nil, damaged()
	}
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, int64(id*m.pageSize)); err != nil {
		return nil, err
	}
	kind, more := order.Uint16(b[8:]), uint64(order.Uint32(b[12:]))
	if order.Uint64(b) != id || kind&kinds == 0 || kind&^kinds != 0 || more >= m.pages-id {
		return nil, damaged()
	}
	b = make([]byte, (more+1)*m.pageSize)
	_, err := f.ReadAt(b, int64(id*m.pageSize))
	return b, err
}

// checkFreelist checks the list of free pages, to which commits write.
func (m meta) checkFreelist(f io.ReaderAt) error {
	b, err := m.page(f, m.freelist, freelistPage)
	if err != nil {
		return err
	}
	count, ids := uint64(order.Uint16(b[10:])), b[headerSize:]
	if count == 0xFFFF { // that many or more: the first entry has the count
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("%w: its list of free pages is cut", ErrDamaged)
	}
	for ; count > 0; count, ids = count-1, ids[8:] {
		if id := order.Uint64(ids); id < 2 || id >= m.pages {
			return fmt.Errorf("%w: its list of free pages names page %d of %d", ErrDamaged, id, m.pages)
		}
	}
	return nil
}
