package job

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
)

// DataURI reads data:[<media type>][;base64],<data> (RFC 2397). Base64 may come with or without padding, in the usual
// alphabet or that of URLs, and with spaces and line breaks in it.
func DataURI(uri string) ([]byte, error) {
	data, base, err := cutDataURI(uri)
	if err != nil {
		return nil, err
	}
	if !base {
		plain, err := url.PathUnescape(data)
		return []byte(plain), err
	}
	if data, err = url.PathUnescape(data); err != nil {
		return nil, err
	}
	return decodeBase64(data)
}

func decodeBase64(data string) ([]byte, error) {
	plain := make([]byte, 0, len(data))
	for i := range len(data) {
		switch c := data[i]; c {
		case ' ', '\t', '\r', '\n':
		case '-':
			plain = append(plain, '+')
		case '_':
			plain = append(plain, '/')
		default:
			plain = append(plain, c)
		}
	}
	plain = bytes.TrimRight(plain, "=")
	n, err := base64.RawStdEncoding.Decode(plain, plain)
	return plain[:n], err
}

// cutDataURI gives what comes after the comma.
func cutDataURI(uri string) (data string, base bool, err error) {
	head, data, found := strings.Cut(strings.TrimPrefix(uri, "data:"), ",")
	if !found {
		return "", false, errors.New("is no data URI, since it has no comma: write it like data:image/png;base64,iVBORw0KGgo…")
	}
	encoding := head[strings.LastIndexByte(head, ';')+1:]
	return data, strings.EqualFold(strings.TrimSpace(encoding), "base64"), nil
}

// checkDataURI says what is wrong with a data URI, as DataURI would find; of other URLs nothing.
func checkDataURI(uri string) error {
	if !strings.HasPrefix(uri, "data:") {
		return nil
	}
	data, base, err := cutDataURI(uri)
	switch {
	case err != nil:
		return err
	case !base:
		if _, err := url.PathUnescape(data); err != nil {
			return errors.New("is no data URI: what follows the comma is not percent-encoded; say ;base64 before the comma when it is base64")
		}
		return nil
	}
	if _, err := DataURI(uri); err != nil {
		return errors.New("is no data URI: what follows the comma is no base64, or is cut off")
	}
	return nil
}
