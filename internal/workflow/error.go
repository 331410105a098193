package workflow

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// exportHint is the way out of most refusals: ComfyUI's own menu entry.
const exportHint = `export it again with "Workflow → Export (API)" in ComfyUI's menu`

// Error is a refused workflow: no host could run it, or it would stop one.
type Error struct {
	Node    string // id of the node at fault, empty when it is the whole workflow
	Message string // a whole sentence for a person: what is wrong, where, what to do
}

func (e *Error) Error() string { return e.Message }

func refuse(node, format string, args ...any) *Error {
	return &Error{Node: node, Message: fmt.Sprintf(format, args...)}
}

// quote makes a name from a workflow fit for a message: quoted, and
// cut after 60 bytes, since an id may be as long as the message limit.
func quote(name string) string {
	const most = 60
	if len(name) <= most {
		return strconv.Quote(name)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return strconv.Quote(name[:cut] + "…")
}
