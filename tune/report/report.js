// Draws every figure in the colours of the page, and again when these change.
const TEMPLATE = {
  layout: {
    font: {family: "system-ui, sans-serif", size: 13, color: "var(--ink)"},
    colorway: ["var(--accent)", "var(--warm)", "var(--violet)", "var(--green)", "var(--rose)",
               "var(--olive)"],
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: {l: 8, r: 8, t: 24, b: 8},
    // A finger that moves over a figure scrolls the page.
    dragmode: false,
    hovermode: "closest",
    hoverlabel: {bgcolor: "var(--paper)", bordercolor: "var(--rule)", namelength: -1, align: "left",
                 font: {color: "var(--ink)"}},
    legend: {orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom",
             itemclick: false, itemdoubleclick: false, font: {color: "var(--muted)"}},
    xaxis: axis(false),
    yaxis: axis(true),
  },
  data: {
    bar: [{marker: {line: {width: 0}}}],
    heatmap: [{colorscale: [[0, "var(--paper)"], [1, "var(--accent)"]], xgap: 1, ygap: 1}],
  },
};

function axis(grid) {
  return {
    automargin: true, fixedrange: true, zeroline: false, showgrid: grid, gridcolor: "var(--rule)",
    linecolor: "var(--rule)", showline: !grid, ticks: grid ? "" : "outside", ticklen: 4,
    tickcolor: "var(--rule)", tickfont: {color: "var(--muted)"},
    title: {font: {color: "var(--muted)", size: 13}, standoff: 10},
  };
}

// Plotly takes tags in any text for markup; where a text is data, they are not.
const MARKUP = /<(?!\/?(?:br|extra)>)/g;

function ready(value, style) {
  if (typeof value === "string") {
    return /^var\(--[\w-]+\)$/.test(value)
      ? style.getPropertyValue(value.slice(4, -1)).trim()
      : value.replace(MARKUP, "&lt;");
  }
  if (Array.isArray(value)) return value.map((item) => ready(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, ready(item, style)]));
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  for (const plot of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(plot.nextElementSibling.textContent);
    const {data, layout} = ready(
      {...figure, layout: {...figure.layout, template: TEMPLATE}}, style);
    Plotly.react(plot, data, layout, {responsive: true, displayModeBar: false});
  }
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
