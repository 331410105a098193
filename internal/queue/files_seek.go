package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A search looks at no more than mostProbes sequences: goodGuesses by interpolation, then by halves, which is enough for 2^64.
const (
	mostProbes  = 80
	goodGuesses = 12
)

// walkMost is how many bytes seek reads at most in a file whose parts have no offsets.
const walkMost = 64 << 20

// errFar: the byte is more than walkMost beyond the place where the search began.
var errFar = errors.New("the byte lies further on")

// search is the search for the part that holds the byte at an offset.
type search struct {
	file   *storedFile
	offset int64
	low    place // the part there begins at the offset or before it
	high   place // the parts there and after begin after the offset; the zero place: unknown
}

// seek finds the part that holds the byte at offset, which is at or after from. When the parts have no offsets it reads from there
// on; after walkMost bytes it gives up with errFar, and at is how far it has come.
func (f *storedFile) seek(ctx context.Context, from place, offset int64) (found part, at place, err error) {
	s := search{file: f, offset: offset, low: from}
	for n := range mostProbes {
		if s.high.sequence > 0 && s.low.sequence >= s.high.sequence {
			break
		}
		sequence := s.guess(n)
		p, err := s.probe(ctx, sequence)
		switch {
		case err != nil:
			return part{}, from, err
		case !p.placed:
			if p.offset = from.offset; sequence == from.sequence && p.has(offset) {
				return p, from, nil
			}
			return f.seekByReading(ctx, from, offset)
		case p.has(offset):
			return p, place{p.sequence, p.offset}, nil
		}
	}
	return part{}, from, f.missing(ctx, offset)
}

// guess is a sequence where the part may be: as if the parts of the file followed one another, or as if they were spread evenly
// between low and high.
func (s *search) guess(n int) uint64 {
	ahead := float64(s.offset - s.low.offset)
	dense := s.low.sequence + uint64(ahead)/uint64(s.file.largest())
	switch {
	case s.high.sequence == 0:
		return dense
	case n > goodGuesses:
		return s.low.sequence + (s.high.sequence-s.low.sequence)/2
	}
	share := ahead / float64(max(1, s.high.offset-s.low.offset))
	even := s.low.sequence + uint64(share*float64(s.high.sequence-s.low.sequence))
	return min(max(dense, even), s.high.sequence-1)
}

// probe looks at a sequence and narrows the search by what it finds.
func (s *search) probe(ctx context.Context, sequence uint64) (part, error) {
	p, found, err := s.file.next(ctx, sequence)
	if err == nil && !found || err == nil && p.placed && !p.has(s.offset) && s.high.sequence == 0 {
		return s.bound(ctx, p, found)
	}
	if err == nil && p.placed {
		s.narrow(&p, sequence)
	}
	return p, err
}

// bound finds the end of the file, when the first guess has failed.
func (s *search) bound(ctx context.Context, p part, found bool) (part, error) {
	last, there, err := s.file.last(ctx)
	if err == nil && !there {
		err = s.file.missing(ctx, s.offset)
	}
	if err != nil {
		return part{}, err
	}
	s.high = place{last.sequence + 1, s.file.size()}
	if found {
		s.narrow(&p, p.sequence)
	}
	if last.placed {
		s.narrow(&last, last.sequence)
	}
	return last, nil
}

// narrow moves low or high, given that p is the file's first part at or after a sequence.
func (s *search) narrow(p *part, sequence uint64) {
	switch {
	case p.offset > s.offset && sequence < s.high.sequence:
		s.high = place{sequence, p.offset}
	case p.offset <= s.offset && p.sequence >= s.low.sequence:
		s.low = p.after()
	}
}

// seekByReading reads parts from a place on until one has the byte.
func (f *storedFile) seekByReading(ctx context.Context, from place, offset int64) (found part, at place, err error) {
	at = from
	err = f.walk(ctx, from, f.batch(), nextTimeout, func(p *part) error {
		switch {
		case p.has(offset):
			found = *p
			return errEnough
		case p.offset-from.offset > walkMost:
			return errEnough
		}
		at = p.after()
		return nil
	})
	switch {
	case err != nil:
		return part{}, at, err
	case found.body == nil:
		return part{}, at, fmt.Errorf("find byte %d of file %s: %w", offset, f.info.Name, errFar)
	}
	return found, at, nil
}

// seekAll finds the part that holds the byte at offset, however far it is, and waits while a copy of the stream is behind.
func (f *storedFile) seekAll(ctx context.Context, offset int64) (part, error) {
	begun := time.Now()
	for from := start; ; {
		p, at, err := f.seek(ctx, from, offset)
		switch {
		case errors.Is(err, errFar):
			from, begun = at, time.Now()
		case errors.Is(err, ErrMissing) && time.Since(begun) < nextTimeout && Pause(ctx, rewatchPause):
		default:
			return p, err
		}
	}
}
