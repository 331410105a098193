package job

import (
	"fmt"
	"testing"
)

// A fold whose rows come and go for ever keeps no more of those that have gone than of those that are there. When there is no room any
// more, the first of those that are there make it.
func TestTextsOfRowsThatHaveGoneTakeNoMemory(t *testing.T) {
	t.Parallel()
	const rows = 10
	kept, at, tidied := newTexts(), uint32(0), 0
	put := func() { kept.put(at, uint64(at)+1, &Brief{Name: fmt.Sprintf("job %06d", at)}) }
	for ; tidied < 3; at++ {
		before := len(kept.queue)
		if put(); len(kept.queue) < before {
			tidied++
		}
		if at >= rows {
			kept.drop(at - rows)
		}
		if len(kept.of) > rows || len(kept.queue) > 2*(rows+1)+fewPlaces {
			t.Fatalf("after %d rows, %d have texts and %d are in the queue", at+1, len(kept.of), len(kept.queue))
		}
	}
	kept.most = kept.bytes
	put()
	if first := at - rows; kept.fits(first, "job") || !kept.fits(first+1, fmt.Sprint(first+1)) || !kept.fits(at, "job") {
		t.Errorf("the first of the rows that are left is not the one that has made room: %v", kept.of)
	}
}
