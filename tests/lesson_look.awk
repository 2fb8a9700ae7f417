# From the page of build/look for a text whose last token has come before: "LAYER.HEAD WEIGHT" of each head, the weight that the
# last token but one gives to that earlier place; then "layer K: yes", or no: the lens of layer K holds the last token for likeliest.
# The page's weights are bytes, 255 times the root, in base 64: a triangle for each head, of whose rows the last but one counts. The
# lens has a line for each token, with pairs of token and probability.
BEGIN { digit = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" }
/"tokens":\[/ {
    s = $0; sub(/.*"tokens":\[/, "", s); sub(/\].*/, "", s)
    n = split(s, id, ",")
    for (k = 1; k < n; k++) if (id[k] == id[n]) at = k - 1
}
/^"map":/ { on = 1; l = 0; h = -1; sub(/.*"w":\[\[/, "") }
on && /^\["/ { l++; h = -1 }
on && /^\[*"/ {
    h++
    s = $0; gsub(/[^A-Za-z0-9+\/]/, "", s)
    i = (n - 2) * (n - 1) / 2 + at
    v = 0
    for (j = 1; j <= 4; j++) v = 64 * v + index(digit, substr(s, int(i / 3) * 4 + j, 1)) - 1
    w = int(v / 256 ^ (2 - i % 3)) % 256 / 255
    print l "." h " " w * w
}
on && /\]\]\}/ { on = 0 }
/^"lens":/ { lens = NR; sub(/^"lens":\[/, "") }
lens && NR == lens + n - 2 {
    gsub(/[^0-9.e,-]/, ""); m = split($0, f, ",")
    for (i = 1; 2 * i <= m && f[2 * i] != ""; i++) print "layer " i - 1 (f[2 * i - 1] == id[n] ? ": yes" : ": no")
}
