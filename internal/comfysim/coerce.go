package comfysim

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// typeError is the message of Python's int() and float() for values of a wrong type.
func typeError(function string, value any) string {
	what := "dict"
	switch value.(type) {
	case nil:
		what = "NoneType"
	case []any:
		what = "list"
	}
	if function == "int()" {
		return fmt.Sprintf("int() argument must be a string, a bytes-like object or a real number, not '%s'", what)
	}
	return fmt.Sprintf("float() argument must be a string or a real number, not '%s'", what)
}

// coerce converts a widget value as Python's int(), float(), str() or bool() would. The second result is the message of
// the exception, "" when it works. Numbers stay json.Number, so that 64 bits survive.
func coerce(kind string, value any) (any, string) {
	switch kind {
	case "INT":
		return coerceInt(value)
	case "FLOAT":
		return coerceFloat(value)
	case "STRING":
		if _, isString := value.(string); !isString {
			return pythonText(value), ""
		}
	}
	return value, ""
}

func coerceInt(value any) (any, string) {
	switch v := value.(type) {
	case json.Number:
		return json.Number(integerText(v)), ""
	case bool:
		return json.Number(integerText(v)), ""
	case string:
		text := strings.ReplaceAll(strings.TrimSpace(v), "_", "")
		if n, ok := new(big.Int).SetString(text, 10); ok {
			return json.Number(n.String()), ""
		}
		return nil, fmt.Sprintf("invalid literal for int() with base 10: %s", quote(v))
	}
	return nil, typeError("int()", value)
}

func coerceFloat(value any) (any, string) {
	switch v := value.(type) {
	case json.Number:
		return v, ""
	case bool:
		return json.Number(integerText(v)), ""
	case string:
		if _, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			return json.Number(strings.TrimSpace(v)), ""
		}
		return nil, fmt.Sprintf("could not convert string to float: %s", quote(v))
	}
	return nil, typeError("float()", value)
}

// integerText is a value's integer part in decimal; "0" for what is no number.
func integerText(value any) string {
	text := fmt.Sprint(value)
	switch value {
	case true:
		return "1"
	case false, nil:
		return "0"
	}
	if n, ok := new(big.Int).SetString(strings.TrimSpace(text), 10); ok {
		return n.String()
	}
	f, ok := new(big.Float).SetPrec(200).SetString(text)
	if !ok {
		return "0"
	}
	n, _ := f.Int(nil)
	return n.String()
}

// integer is integerText as int64; what does not fit is 0.
func integer(value any) int64 {
	n, _ := strconv.ParseInt(integerText(value), 10, 64)
	return n
}

// less compares two numbers exactly.
func less(a, b json.Number) bool {
	x, okX := new(big.Float).SetPrec(200).SetString(string(a))
	y, okY := new(big.Float).SetPrec(200).SetString(string(b))
	return okX && okY && x.Cmp(y) < 0
}

// quote is Python's repr of a string.
func quote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`).Replace(s)
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `\'`) + "'"
}

// pythonText is Python's str of a JSON value.
func pythonText(value any) string {
	switch v := value.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return v
	case json.Number:
		return v.String()
	}
	text, _ := json.Marshal(value)
	return string(text)
}

// pythonList is Python's repr of a list of strings.
func pythonList(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
