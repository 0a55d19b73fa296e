package lwm2m

// The body of a composite request in LwM2M CBOR: an array of paths, each an
// array of identifiers, [[5,0,3],[3,0,3]].

func appendCBORPaths(dst []byte, paths []Path) []byte {
	dst = appendCBORHead(dst, cborArray, uint64(len(paths)))
	for _, p := range paths {
		dst = appendCBORHead(dst, cborArray, uint64(p.Len()))
		for _, id := range p.ids[:p.n] {
			dst = appendCBORHead(dst, cborUint, uint64(id))
		}
	}
	return dst
}

func decodeCBORPaths(payload []byte) ([]Path, error) {
	d := lwm2mCBORDecoder{r: cborReader{format: FormatLwM2MCBOR, data: payload}}
	h, err := d.r.head()
	if err != nil {
		return nil, err
	}
	if h.major != cborArray {
		return nil, d.r.fail(h.at, "not an array of paths")
	}
	var paths []Path
	for n := uint64(0); ; n++ {
		more, err := d.r.more(h, n)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		p, err := d.path()
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	if d.r.pos != len(payload) {
		return nil, d.r.fail(d.r.pos, "data after the end")
	}
	return paths, nil
}

// path reads one path; an empty array is the root.
func (d *lwm2mCBORDecoder) path() (Path, error) {
	h, err := d.r.head()
	if err != nil {
		return Path{}, err
	}
	if h.major != cborArray {
		return Path{}, d.r.fail(h.at, "path is not an array")
	}
	var p Path
	for n := uint64(0); ; n++ {
		more, err := d.r.more(h, n)
		if err != nil || !more {
			return p, err
		}
		id, err := d.r.head()
		if err != nil {
			return p, err
		}
		if p, err = d.identifier(p, id); err != nil {
			return p, err
		}
	}
}
