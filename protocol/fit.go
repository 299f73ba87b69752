package protocol

import (
	"encoding"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"
)

// fit rewrites MessagePack whose shape has been checked so that every array that stands for a struct of t has just its fields:
// what a later version appended goes, a struct with too few is refused. The library wants it exact.
func fit(b []byte, t reflect.Type) ([]byte, bool) {
	out, rest, ok := fitValue(make([]byte, 0, len(b)), b, t)
	return out, ok && len(rest) == 0
}

func fitValue(dst, b []byte, t reflect.Type) (out, rest []byte, ok bool) {
	switch {
	case isOpaque(t):
	case t.Kind() == reflect.Struct:
		return fitStruct(dst, b, t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 && len(b) > 0 && b[0] != 0xc0:
		return fitSlice(dst, b, t.Elem())
	}
	rest, ok = skipValue(b, 0)
	if !ok {
		return dst, b, false
	}
	return append(dst, b[:len(b)-len(rest)]...), rest, true
}

func fitStruct(dst, b []byte, t reflect.Type) (out, rest []byte, ok bool) {
	var room [24]reflect.Type
	fields := fieldTypes(room[:0], t)
	r := reader{b: b}
	n := r.length()
	if r.bad || n < len(fields) {
		return dst, b, false
	}
	dst = appendArray(dst, len(fields))
	rest = r.b
	for _, f := range fields {
		if dst, rest, ok = fitValue(dst, rest, f); !ok {
			return dst, rest, false
		}
	}
	for range n - len(fields) {
		if rest, ok = skipValue(rest, 0); !ok {
			return dst, rest, false
		}
	}
	return dst, rest, true
}

func fitSlice(dst, b []byte, elem reflect.Type) (out, rest []byte, ok bool) {
	r := reader{b: b}
	n := r.length()
	if r.bad {
		return dst, b, false
	}
	dst = appendArray(dst, n)
	rest = r.b
	for range n {
		if dst, rest, ok = fitValue(dst, rest, elem); !ok {
			return dst, rest, false
		}
	}
	return dst, rest, true
}

// fieldTypes lists a struct's fields as the library does: embedded ones inlined.
func fieldTypes(l []reflect.Type, t reflect.Type) []reflect.Type {
	for i := range t.NumField() {
		switch f := t.Field(i); {
		case f.Anonymous && f.Type.Kind() == reflect.Struct && !isOpaque(f.Type):
			l = fieldTypes(l, f.Type)
		case f.IsExported():
			l = append(l, f.Type)
		}
	}
	return l
}

var (
	customDecoder = reflect.TypeFor[msgpack.CustomDecoder]()
	binaryDecoder = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// isOpaque reports whether a type reads itself, from one value.
func isOpaque(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(customDecoder) || p.Implements(binaryDecoder)
}
