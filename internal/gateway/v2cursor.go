package gateway

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

const (
	usualPage = 50
	mostPage  = 100
)

// place is where a job is in a list: by the time of its creation, and jobs of the same time by their ids.
type place struct {
	created time.Time
	id      job.ID
}

// before reports whether p comes before o in a list, which has the newest job first.
func (p place) before(o place) bool {
	if !p.created.Equal(o.created) {
		return p.created.After(o.created)
	}
	return p.id > o.id
}

// cursor is a place in the form of next_cursor.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "1 %d %s", p.created.UnixNano(), p.id))
}

// placeOf reads a cursor.
func placeOf(cursor string) (place, error) {
	body, err := base64.RawURLEncoding.DecodeString(cursor)
	parts := strings.Split(string(body), " ")
	if err == nil && len(parts) == 3 && parts[0] == "1" && job.ID(parts[2]).Valid() {
		if nanos, err := strconv.ParseInt(parts[1], 10, 64); err == nil {
			return place{time.Unix(0, nanos), job.ID(parts[2])}, nil
		}
	}
	return place{}, refuse(http.StatusBadRequest, "invalid_cursor", "the cursor is none that this list has given: give the next_cursor of an answer unchanged, or leave it out")
}

// limitOf reads how many jobs a page has.
func limitOf(query url.Values) (int, error) {
	if !query.Has("limit") {
		return usualPage, nil
	}
	n, err := strconv.Atoi(query.Get("limit"))
	if err != nil || n < 1 || n > mostPage {
		return 0, badRequest("limit is %.40q: give a whole number from 1 to %d, or leave it out for %d", query.Get("limit"), mostPage, usualPage)
	}
	return n, nil
}
