package coap

import "errors"

// block is the value of a Block1 or Block2 option (RFC 7959, section 2.2).
type block struct {
	num  uint32 // 20 bits
	more bool
	szx  uint8 // 0 to 6; 7 is reserved on datagrams and BERT on streams
}

const (
	maxBlockNum = 1<<20 - 1
	maxSZX      = 6
	bert        = 7
)

var errBlock = errors.New("coap: bad block option")

// parseBlock reads an option value. It accepts the reserved SZX 7, whose meaning depends on the
// transport.
func parseBlock(b []byte) (block, error) {
	if len(b) > 3 {
		return block{}, errBlock
	}
	v, _ := parseUint(b)
	return block{num: v >> 4, more: v&8 != 0, szx: uint8(v & 7)}, nil
}

// value is the option value as an unsigned integer.
func (b block) value() uint32 {
	v := b.num<<4 | uint32(b.szx)
	if b.more {
		v |= 8
	}
	return v
}

// append appends the option value.
func (b block) append(dst []byte) []byte { return appendUint(dst, b.value()) }

// size is the size of the blocks.
func (b block) size() int {
	if b.szx == bert {
		return 1024
	}
	return 16 << b.szx
}

// offset is where the block begins in the body.
func (b block) offset() int64 { return int64(b.num) * int64(b.size()) }

// blockAt returns the block of size szx at offset, a multiple of that.
func blockAt(offset int64, szx uint8) block {
	b := block{szx: szx}
	b.num = uint32(offset / int64(b.size()))
	return b
}

// maxBody is one byte more than the largest body that blocks can carry.
const maxBody = int64(maxBlockNum+1) << 10

// reach is the largest body that blocks of szx can carry.
func reach(szx uint8) int64 { return int64(maxBlockNum+1) * int64(block{szx: szx}.size()) }

// szxOf returns the largest block size that is at most n. n is at least 16.
func szxOf(n int) uint8 {
	szx := uint8(maxSZX)
	for szx > 0 && 16<<szx > n {
		szx--
	}
	return szx
}

// alignedSZX returns the largest block size, at most szx, that divides offset. It returns false if
// its block numbers do not reach offset.
func alignedSZX(offset int64, szx uint8) (uint8, bool) {
	for szx > 0 && offset%int64(block{szx: szx}.size()) != 0 {
		szx--
	}
	return szx, offset%16 == 0 && offset < reach(szx)
}

// findBlock reads the block option id of opts.
func findBlock(opts Options, id OptionID) (b block, ok bool, err error) {
	v, ok := Bytes(opts, id)
	if !ok {
		return block{}, false, nil
	}
	b, err = parseBlock(v)
	return b, true, err
}
