package main

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// A drawer draws mutations in an order that the seed determines.
//
// A site's place in that order depends only on the seed, the site, and the weight of its package.
// So if the tests cover a statement in some runs only, other mutations keep their order, and their
// numbers change little.
type drawer struct {
	sites  []*site // covered, in the order of the draw
	rng    map[*site]*rand.Rand
	number int
}

// newDrawer orders the sites. The package of each next site is random, weighted with the number of
// statements that its tests cover; within a package all sites have the same chance.
func newDrawer(seed uint64, packages []*pkg, sites map[*pkg][]*site) *drawer {
	d := &drawer{rng: map[*site]*rand.Rand{}}
	keys := map[*site]float64{}
	for _, p := range packages {
		weight := float64(p.statements) / float64(max(len(sites[p]), 1))
		for _, s := range sites[p] {
			if !s.covered {
				continue
			}
			m := s.mutations[0]
			h := fnv.New64a()
			fmt.Fprintf(h, "%s %s %d %d", p.importPath, m.src.name, m.start, m.end)
			rng := rand.New(rand.NewPCG(seed, h.Sum64()))
			// The least of exponential variables is each with a probability in proportion to its
			// rate.
			keys[s] = rng.ExpFloat64() / math.Max(weight, math.SmallestNonzeroFloat64)
			d.rng[s] = rng
			d.sites = append(d.sites, s)
		}
	}
	slices.SortStableFunc(d.sites, func(a, b *site) int { return cmp.Compare(keys[a], keys[b]) })
	return d
}

// draw returns the next mutation that compiles, or nil if there is no site left. Each site is drawn
// once.
func (d *drawer) draw() *mutation {
	for len(d.sites) > 0 {
		s := d.sites[0]
		d.sites = d.sites[1:]
		for _, i := range d.rng[s].Perm(len(s.mutations)) {
			if m := s.mutations[i]; m.pkg.compiles(m.src, m.after()) {
				d.number++
				m.number = d.number
				return m
			}
		}
	}
	return nil
}
