package browser_test

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
)

// landscape paints hills under a sky, so that the pictures in the README look like what a fleet makes; simulated hosts make pictures of
// one colour.
func landscape(seed uint64) []byte {
	const size = 320
	r := rand.New(rand.NewPCG(seed, 7))
	hue := r.Float64()
	top, low := tint(hue, 0.55, 0.42), tint(hue+0.12, 0.5, 0.85)
	sunX, sunY, sun := r.Float64()*size, size*(0.18+0.25*r.Float64()), 16+r.Float64()*22
	picture := image.NewRGBA(image.Rect(0, 0, size, size))
	type hill struct{ base, high, wave, phase float64 }
	var hills []hill
	for i := range 4 {
		hills = append(hills, hill{size * (0.45 + 0.14*float64(i)), 14 + r.Float64()*26, 0.008 + r.Float64()*0.02, r.Float64() * 6})
	}
	for y := range size {
		for x := range size {
			c := mix(top, low, float64(y)/size)
			if d := math.Hypot(float64(x)-sunX, float64(y)-sunY); d < sun*3 {
				c = mix(tint(hue+0.15, 0.3, 0.98), c, math.Min(1, math.Max(0, (d-sun)/(sun*2))))
			}
			for i, h := range hills {
				edge := h.base + h.high*math.Sin(float64(x)*h.wave+h.phase) + h.high*0.3*math.Sin(float64(x)*h.wave*3.1)
				if float64(y) > edge {
					c = mix(tint(hue+0.4+0.03*float64(i), 0.35, 0.55-0.11*float64(i)), c, 0.12)
				}
			}
			picture.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture, &jpeg.Options{Quality: 85}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// tint is a colour by hue, saturation and lightness, each from 0 to 1.
func tint(hue, saturation, lightness float64) color.RGBA {
	part := func(n float64) uint8 {
		k := math.Mod(n+hue*12, 12)
		a := saturation * math.Min(lightness, 1-lightness)
		return uint8(255 * (lightness - a*math.Max(-1, math.Min(math.Min(k-3, 9-k), 1))))
	}
	return color.RGBA{part(0), part(8), part(4), 255}
}

func mix(a, b color.RGBA, part float64) color.RGBA {
	m := func(x, y uint8) uint8 { return uint8(float64(x)*(1-part) + float64(y)*part) }
	return color.RGBA{m(a.R, b.R), m(a.G, b.G), m(a.B, b.B), 255}
}
