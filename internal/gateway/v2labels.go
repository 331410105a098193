package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	mostLabels  = 16
	mostFilters = 3
	longestKey  = 40
	longestText = 256
)

// readLabels reads the labels of a submit, its "metadata": an object of strings. Null and an empty object are none.
func readLabels(raw json.RawMessage) (map[string]string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var labels map[string]string
	if err := json.Unmarshal(raw, &labels); err != nil {
		return nil, badLabels("metadata must be an object whose values are strings, such as {\"client\": \"acme\"}")
	}
	if len(labels) > mostLabels {
		return nil, badLabels("metadata has %d pairs; at most %d are allowed", len(labels), mostLabels)
	}
	for key, value := range labels {
		if why := wrongLabel(key, value); why != "" {
			return nil, badLabels("%s", why)
		}
	}
	return labels, nil
}

func badLabels(format string, args ...any) error {
	return unprocessable("metadata_invalid", format, args...)
}

// wrongLabel says what is wrong with a pair; nothing when it is right.
func wrongLabel(key, value string) string {
	switch {
	case !labelKey(key):
		return fmt.Sprintf("metadata key %.60q must be 1 to %d characters from A-Z a-z 0-9 _ - .", key, longestKey)
	case len(value) > longestText:
		return fmt.Sprintf("the value of metadata key %q has %d bytes; at most %d are allowed", key, len(value), longestText)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unprintable):
		return fmt.Sprintf("the value of metadata key %q has control characters or marks that change the direction of text", key)
	}
	return ""
}

// labelBytes are the characters of a label's key.
const labelBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."

func labelKey(key string) bool {
	return key != "" && len(key) <= longestKey && !strings.ContainsFunc(key, func(r rune) bool { return !strings.ContainsRune(labelBytes, r) })
}

func unprintable(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// labelsOf are a job's labels: those of its submit. Of a job that another program has published they are the members of its metadata
// that are strings.
func labelsOf(row *Row) map[string]string {
	labels := map[string]string{}
	if row.Submission.Labels != nil {
		return row.Submission.Labels
	}
	var members map[string]any
	if json.Unmarshal(row.Metadata, &members) != nil {
		return labels
	}
	for key, value := range members {
		if text, is := value.(string); is {
			labels[key] = text
		}
	}
	return labels
}

// filtersOf reads the filters of a list: metadata[<key>]=<value>.
func filtersOf(query url.Values) (map[string]string, error) {
	filters := map[string]string{}
	for name, values := range query {
		key, is := strings.CutPrefix(name, "metadata[")
		if !is {
			continue
		}
		key, closed := strings.CutSuffix(key, "]")
		switch {
		case !closed || !labelKey(key):
			return nil, refuse(http.StatusBadRequest, "invalid_metadata_filter", "%.80q is no filter: write metadata[<key>]=<value>", name)
		case len(values) != 1:
			return nil, refuse(http.StatusBadRequest, "invalid_metadata_filter", "metadata key %q is given %d times: a job has one value for a key", key, len(values))
		}
		filters[key] = values[0]
	}
	if len(filters) > mostFilters {
		return nil, refuse(http.StatusBadRequest, "invalid_metadata_filter", "the list has %d filters; at most %d are allowed", len(filters), mostFilters)
	}
	return filters, nil
}

func matches(labels, filters map[string]string) bool {
	for key, want := range filters {
		if got, has := labels[key]; !has || got != want {
			return false
		}
	}
	return true
}
