"""Style: the report's one style sheet, light and dark, wide and narrow, on screen and on paper.

Decides how things look. Must not load anything. Charts are drawn at 360 units, so on a phone a letter is as large as on
a desk; wider things scroll in their own frame.
"""

from __future__ import annotations

from gridctl.report.palette import DARK, LIGHT, variables

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
overflow-wrap:anywhere}
header,main,footer,nav{max-width:76rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.7rem;margin:1.5rem 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{max-width:70ch;margin:.5rem 0}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;padding:.5rem;background:var(--panel)}
.by{color:var(--muted)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:0;margin:.75rem 0}
nav a{display:inline-block;padding:.25rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.75rem;margin:1rem 0}
.tiles div{background:var(--panel);padding:.6rem .8rem;border-radius:6px}
.tiles dt{color:var(--muted);font-size:.85rem}
.tiles dd{margin:0;font-size:1.35rem;font-variant-numeric:tabular-nums}
.tiles .more{font-size:.85rem;color:var(--muted)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr));gap:1.25rem}
figure{margin:.5rem 0;min-width:0}
figcaption{font-weight:600;margin-bottom:.25rem;overflow-wrap:anywhere}
figcaption span{display:block;font-weight:400;color:var(--muted);font-size:.85rem}
svg{display:block;width:100%;height:auto}
svg text{font:11px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
svg text.key{fill:var(--ink)}
svg text.end{text-anchor:end}
svg text.mid{text-anchor:middle}
.scroll{overflow-x:auto;max-width:100%}
.wide{min-width:42rem;max-width:52rem}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;margin:.25rem 0}
caption{text-align:left;white-space:normal;font-weight:600;padding:.25rem 0;font-size:.95rem}
th,td{padding:.25rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule);
unicode-bidi:isolate;white-space:nowrap}
thead th{color:var(--muted);font-weight:600}
tbody th{font-weight:400}
.n{text-align:right}
.good{color:var(--good)}.fair{color:var(--fair)}.bad{color:var(--bad)}
tr.sum>*{font-weight:600}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--link);padding:.25rem 0}
pre{background:var(--panel);padding:.75rem;overflow-x:auto;border-radius:6px;font-size:.85rem}
ul.legend{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;list-style:none;padding:0;margin:.25rem 0;font-size:.85rem}
ul.legend svg{display:inline-block;width:16px;height:16px;vertical-align:-3px;margin-right:.3rem}
.tools{display:flex;flex-wrap:wrap;gap:.5rem;align-items:end;margin:.5rem 0}
.tools[hidden]{display:none}
.tools label{font-size:.85rem;color:var(--muted)}
.tools input,.tools button{font:inherit;font-size:.9rem;color:var(--ink);background:var(--panel);
border:1px solid var(--muted);border-radius:6px;padding:.3rem .6rem;min-height:2.2rem}
.tools input{display:block;width:16rem;max-width:100%}
output{display:block;min-height:1.5rem;font-size:.9rem}
#map{touch-action:pan-y;border:1px solid var(--rule);border-radius:6px}
.rule{stroke:var(--rule);fill:none;stroke-width:1}
.axis{stroke:var(--muted);fill:none;stroke-width:1}
.dots{fill:none;stroke-linecap:round;vector-effect:non-scaling-stroke}
.squares{fill:none;stroke-linecap:square;vector-effect:non-scaling-stroke}
.land{stroke:var(--land);stroke-width:3}
.s-good{stroke:var(--good)}.s-fair{stroke:var(--fair)}.s-bad{stroke:var(--bad)}
.s-paper{stroke:var(--paper)}.s-ink{stroke:var(--ink)}
.w2{stroke-width:2}.w3{stroke-width:3}.w4{stroke-width:4}.w5{stroke-width:5}.w7{stroke-width:7}.w9{stroke-width:9}
.w11{stroke-width:11}.w13{stroke-width:13}
.ring{fill:none;stroke:var(--link);stroke-width:3;vector-effect:non-scaling-stroke}
.f-busy{fill:var(--busy)}.f-idle{fill:var(--idle)}.f-serverless{fill:var(--serverless)}.f-egress{fill:var(--egress)}
.f-fallback{fill:var(--fallback)}.f-energy{fill:var(--energy)}.f-good{fill:var(--good)}.f-bad{fill:var(--bad)}
.seg{stroke:var(--paper);stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.s-busy{stroke:var(--busy)}.s-muted{stroke:var(--muted)}
.limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 3}
.quantile{stroke:var(--ink);stroke-width:1}
.other{fill:none;stroke:var(--ink);stroke-width:1.5;stroke-dasharray:2 2}
.ribbon{fill:var(--busy);fill-opacity:.45}
.ribbon:hover{fill-opacity:.8}
.node{fill:var(--muted)}
.fault{fill:var(--bad);fill-opacity:.16}
.faultline{stroke:var(--bad);stroke-width:1;stroke-dasharray:3 2}
footer{margin-top:3rem;padding-bottom:2rem;color:var(--muted);font-size:.85rem}
@media(max-width:40rem){body{font-size:15px}h1{font-size:1.35rem}th,td{padding:.2rem .4rem}
#map text{display:none}.land{stroke-width:1.5}.w9{stroke-width:7}}
@media print{nav,.skip,.tools,output{display:none}h2{break-after:avoid}figure,.tiles{break-inside:avoid}
.scroll{overflow:visible}a{color:inherit}}
@media(forced-colors:active){.tiles div,.tools input{border:1px solid}}
"""


def style_sheet() -> str:
    """The whole sheet. Paper is always light."""
    light, dark = variables(LIGHT), variables(DARK)
    schemes = (
        f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
    return schemes + _RULES
