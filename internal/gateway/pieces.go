package gateway

import (
	"log/slog"
	"net/http"
)

// pieces is an answer in JSON that is sent piece by piece, since all together may be large. Nothing is sent before the first value, so
// that an error before that is answered as such.
type pieces struct {
	w     http.ResponseWriter
	log   *slog.Logger
	ahead []byte // texts before the first value
	begun bool
}

func (p *pieces) text(text string) {
	if !p.begun {
		p.ahead = append(p.ahead, text...)
		return
	}
	_, _ = p.w.Write([]byte(text)) // the client has gone
}

func (p *pieces) value(v any) {
	p.begin()
	_, _ = p.w.Write(encode(v))
}

func (p *pieces) begin() {
	if p.begun {
		return
	}
	p.begun = true
	p.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = p.w.Write(p.ahead)
}

// end sends the last text. After an error an answer that has begun is left unfinished, so that no client takes it for whole.
func (p *pieces) end(text string, err error) error {
	if err == nil {
		p.text(text)
		p.begin()
		return nil
	}
	if !p.begun {
		return err
	}
	p.log.Warn("an answer was begun and could not be ended", "error", err)
	return nil
}
