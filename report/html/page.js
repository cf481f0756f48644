"use strict";
(function () {
  // A citation opens its bytes; printing opens them all.
  function openTarget() {
    var id = location.hash.slice(1);
    var el = /^p[0-9]+$/.test(id) && document.getElementById(id);
    if (el) { el.open = true; el.scrollIntoView({ block: "center" }); }
  }
  window.addEventListener("hashchange", openTarget);
  document.addEventListener("click", function (e) {
    var a = e.target.closest && e.target.closest("a.cite");
    if (a && a.getAttribute("href") === location.hash) { openTarget(); }
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details.proof, details.why").forEach(function (d) { d.open = true; });
  });
  openTarget();

  // The timeline's brush: dragging keeps the rows and dots of that stretch of time.
  var pic = document.getElementById("picture"), svg = pic && pic.querySelector("svg");
  if (!svg) { return; }
  var t0 = +svg.dataset.t0, t1 = +svg.dataset.t1, x0 = +svg.dataset.x0, x1 = +svg.dataset.x1;
  var lo = t0, hi = t1, from = null;
  var brush = svg.querySelector(".brush"), range = document.getElementById("range");
  var rows = Array.prototype.slice.call(document.querySelectorAll("#events tbody tr"));
  var dots = Array.prototype.slice.call(svg.querySelectorAll(".d"));
  var ticks = Array.prototype.slice.call(svg.querySelectorAll(".tick"));
  function at(e) {
    var r = svg.getBoundingClientRect(), vb = svg.viewBox.baseVal;
    return Math.max(x0, Math.min(x1, (e.clientX - r.left) / r.width * vb.width));
  }
  function time(x) { return lo + (x - x0) / (x1 - x0) * (hi - lo); }
  function show(a, b) {
    lo = a; hi = b;
    var n = 0;
    rows.forEach(function (r) { var t = +r.dataset.t, on = t >= a && t <= b; r.hidden = !on; if (on) { n++; } });
    dots.forEach(function (d) {
      var t = +d.dataset.t, on = t >= a && t <= b;
      d.style.display = on ? "" : "none";
      if (on) { d.setAttribute("cx", x0 + (b > a ? (t - a) / (b - a) : 0.5) * (x1 - x0)); }
    });
    ticks.forEach(function (k, i) {
      k.textContent = new Date(a + (b - a) * i / (ticks.length - 1)).toISOString().replace("T", " ").slice(0, b - a < 60000 ? 23 : 19) + "Z";
    });
    range.textContent = (a === t0 && b === t1) ? "" : n + " rows from " + new Date(a).toISOString() + " to " + new Date(b).toISOString();
  }
  pic.addEventListener("pointerdown", function (e) { from = at(e); });
  pic.addEventListener("pointermove", function (e) {
    if (from === null) { return; }
    var x = at(e);
    brush.setAttribute("x", Math.min(x, from)); brush.setAttribute("width", Math.abs(x - from));
  });
  window.addEventListener("pointerup", function (e) {
    if (from === null) { return; }
    var x = at(e), a = Math.min(x, from), b = Math.max(x, from);
    from = null; brush.setAttribute("width", 0);
    if (b - a < 4) { show(t0, t1); } else { show(time(a), time(b)); }
  });
})();
