(function () {
  "use strict";
  var options = { responsive: true, displayModeBar: false, displaylogo: false };
  document.querySelectorAll(".plot").forEach(function (element) {
    var figure = JSON.parse(document.getElementById(element.id + "-data").textContent);
    Plotly.newPlot(element, figure.data, figure.layout, options);
  });
  document.querySelectorAll(".switch button").forEach(function (button) {
    button.addEventListener("click", function () {
      button.parentElement.querySelectorAll("button").forEach(function (other) {
        other.setAttribute("aria-pressed", String(other === button));
      });
      Plotly.relayout(button.parentElement.dataset.figure, { "yaxis.type": button.dataset.axis, "yaxis.autorange": true });
    });
  });
})();
