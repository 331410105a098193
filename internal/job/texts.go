package job

import (
	"bytes"
	"strings"
)

const (
	// longestText is how many bytes a name or a title may have: those of this system have no more.
	longestText = 4 * 120
	// metadataKept is how many bytes of a job's metadata can be searched.
	metadataKept = 512
	// textsMost is how many bytes of names and metadata are kept for all rows together.
	textsMost = 64 << 20
	// textCost is what a row with texts takes beside them.
	textCost = 64
)

// texts are the names and the metadata of the rows that have some. When they take too much memory, those of the rows that came
// first are forgotten: such a row is still listed, and no search for a text finds it.
type texts struct {
	of    map[uint32]rowTexts
	queue []textOwner // in the order in which they came
	bytes int
	most  int
}

type rowTexts struct {
	name     string
	metadata string
	first    uint64
}

// textOwner is a row that has texts, as long as it stands for the same job.
type textOwner struct {
	at    uint32
	first uint64
}

func newTexts() texts { return texts{of: map[uint32]rowTexts{}, most: textsMost} }

// put keeps the texts of a row, from the first of its events that has some.
func (t *texts) put(at uint32, first uint64, b *Brief) {
	if _, has := t.of[at]; has || b.Name == "" && len(b.Metadata) == 0 {
		return
	}
	x := rowTexts{first: first, metadata: string(bytes.ToValidUTF8(b.Metadata[:min(len(b.Metadata), metadataKept)], nil))}
	if len(b.Name) <= longestText {
		x.name = strings.Clone(b.Name)
	}
	t.of[at] = x
	t.bytes += x.size()
	t.queue = append(t.queue, textOwner{at, first})
	for t.bytes > t.most {
		oldest := t.queue[0]
		t.queue = t.queue[1:]
		if t.of[oldest.at].first == oldest.first {
			t.drop(oldest.at)
		}
	}
	t.tidy()
}

func (x *rowTexts) size() int { return len(x.name) + len(x.metadata) + textCost }

func (t *texts) drop(at uint32) {
	if x, has := t.of[at]; has {
		t.bytes -= x.size()
		delete(t.of, at)
	}
}

// tidy removes entries from the queue whose rows have no texts any more, once these are more than half.
func (t *texts) tidy() {
	if len(t.queue) <= 2*len(t.of)+fewPlaces {
		return
	}
	kept := make([]textOwner, 0, len(t.of))
	for _, o := range t.queue {
		if x, has := t.of[o.at]; has && x.first == o.first {
			kept = append(kept, o)
		}
	}
	t.queue = kept
}

// fits reports whether a row's name or metadata has a text in it, whatever its case.
func (t *texts) fits(at uint32, lower string) bool {
	x, has := t.of[at]
	return has && (strings.Contains(strings.ToLower(x.name), lower) || strings.Contains(strings.ToLower(x.metadata), lower))
}

// Texts are what people call a job and its workflow.
type Texts struct{ Name, Title string }

// Texts gives those of a job.
func (f *Fold) Texts(tenant Tenant, id ID) Texts {
	at, found := f.find(tenant, id)
	if !found {
		return Texts{}
	}
	return Texts{f.texts.of[at].name, f.title(at)}
}

func (f *Fold) title(at uint32) string {
	if g := f.groupOf(&f.rows[at]); g != nil {
		return f.names.text(g.title)
	}
	return ""
}
