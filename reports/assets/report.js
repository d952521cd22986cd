"use strict";
// One cursor for all charts: the values at the pointer stand under each of them. Without this script the report loses nothing else.
(function () {
  var left = 0.07, wide = 0.92; // the place of the plot, as in the template
  var charts = JSON.parse(document.getElementById("data").textContent).map(function (chart) {
    var figure = document.getElementById("chart-" + chart.id);
    return { data: chart, svg: figure.querySelector("svg.chart"), cursor: figure.querySelector(".cursor"), values: figure.querySelector(".values") };
  });

  // The window that holds the moment, or null.
  function windowAt(line, ms) {
    for (var i = 0; i < line.start.length; i++) {
      if (line.start[i] <= ms && ms <= line.end[i]) { return i; }
    }
    return null;
  }

  function text(line, unit, ms) {
    var i = windowAt(line, ms);
    if (i === null) { return line.name + ": no requests"; }
    return line.name + ": " + Number(line.values[i].toPrecision(4)) + " " + unit + " (" + line.n[i] + " requests in " + ((line.end[i] - line.start[i]) / 1000).toFixed(1) + " s)";
  }

  function show(share) {
    charts.forEach(function (chart) {
      var data = chart.data, ms = data.from + (data.to - data.from) * share;
      chart.cursor.setAttribute("x1", 1000 * share);
      chart.cursor.setAttribute("x2", 1000 * share);
      chart.values.textContent = [(ms / 1000).toFixed(1) + " s"].concat(data.lines.map(function (line) { return text(line, data.unit, ms); })).join("  ·  ");
    });
  }

  charts.forEach(function (chart) {
    chart.svg.addEventListener("pointermove", function (event) {
      var box = chart.svg.getBoundingClientRect();
      show(Math.min(Math.max(((event.clientX - box.left) / box.width - left) / wide, 0), 1));
    });
  });
})();
