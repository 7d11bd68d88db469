"use strict";
(function () {
  var root = document.documentElement;
  var charts = JSON.parse(document.getElementById("charts").textContent);
  var onDark = JSON.parse(document.getElementById("on-dark").textContent);
  var wantsDark = matchMedia("(prefers-color-scheme: dark)");
  var narrow = matchMedia("(max-width: 640px)");
  var coarse = matchMedia("(pointer: coarse)");
  var printing = false;
  var drawn = {};

  function dark() {
    if (printing) return false;
    return root.dataset.theme ? root.dataset.theme === "dark" : wantsDark.matches;
  }

  // The same figure in the other theme's colours.
  function themed(value) {
    if (typeof value === "string") return dark() && onDark[value] ? onDark[value] : value;
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") {
      var made = {};
      Object.keys(value).forEach(function (name) {
        made[name] = name === "colorscale" ? scale(value[name]) : themed(value[name]);
      });
      return made;
    }
    return value;
  }

  // Of a scale with two ends only the middle is the paper's colour: numbers on the ends stay readable.
  function scale(steps) {
    var two = steps.length === 3 && steps[1][1] === "#ffffff";
    return steps.map(function (step) { return !two || step[1] === "#ffffff" ? themed(step) : step; });
  }

  function axis(own, colours) {
    return Object.assign({ automargin: true, zeroline: false }, own, {
      gridcolor: colours.grid, linecolor: colours.line, zerolinecolor: colours.line, tickcolor: colours.line,
      title: Object.assign({ standoff: 10 }, typeof own.title === "string" ? { text: own.title } : own.title),
      fixedrange: coarse.matches
    });
  }

  function layout(own) {
    var style = getComputedStyle(root);
    var read = function (name) { return style.getPropertyValue(name).trim(); };
    var colours = { grid: read("--grid"), line: read("--line"), text: read("--text") };
    if (printing) colours = { grid: "#e3e6e9", line: "#8a939c", text: "#1b2026" };
    var made = Object.assign({ plot_bgcolor: "rgba(0,0,0,0)" }, themed(own), {
      paper_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colours.text },
      margin: { l: 8, r: 12, t: 12, b: 8, pad: 2 },
      hoverlabel: { font: { size: 13 } },
      dragmode: coarse.matches ? false : "zoom",
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 } },
      autosize: true
    });
    Object.keys(own).concat(["xaxis", "yaxis"]).forEach(function (name) {
      if (/^[xy]axis\d*$/.test(name)) made[name] = axis(made[name] || {}, colours);
    });
    return made;
  }

  function entries(own) {
    // A legend above the plot takes a line for every two or three names on a phone.
    return own.data.filter(function (trace) { return trace.name && trace.showlegend !== false; }).length;
  }

  function draw(name) {
    var place = document.getElementById("chart-" + name);
    var own = charts[name];
    var many = entries(own);
    var perLine = narrow.matches ? 1 : 4;
    var height = own.height + (many > 1 ? 22 * Math.ceil(many / perLine) : 0);
    place.style.height = height + "px";
    var figure = layout(own.layout);
    figure.height = height;
    figure.showlegend = many > 1;
    var data = themed(own.data).map(function (trace) {
      if (trace.type === "heatmap" && narrow.matches) {
        trace.showscale = false;
        trace.textfont = { size: 12 };
        // Numbers that would not fit their cells stand in the table below.
        if (trace.x.length > 4) delete trace.texttemplate;
      }
      if (trace.mode && trace.mode.indexOf("text") >= 0) trace.textfont = { size: 12, color: figure.font.color };
      return trace;
    });
    var options = { displayModeBar: false, responsive: true, doubleClick: "reset" };
    drawn[name] = true;
    return Plotly.react(place, data, figure, options);
  }

  function all() {
    return Promise.all(Object.keys(charts).map(draw));
  }

  // One after the other, so that the page can be read and scrolled meanwhile.
  function oneByOne(names) {
    if (!names.length) {
      root.dataset.charts = "drawn";
      return;
    }
    Promise.resolve(drawn[names[0]] || draw(names[0])).then(function () {
      setTimeout(function () { oneByOne(names.slice(1)); }, 0);
    });
  }

  function label(button) {
    var next = dark() ? "light" : "dark";
    button.textContent = next === "dark" ? "Dark theme" : "Light theme";
    button.setAttribute("aria-label", "Switch to the " + next + " theme");
  }

  var button = document.getElementById("theme");
  button.hidden = false;
  label(button);
  button.addEventListener("click", function () {
    root.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem("gatenorm-theme", root.dataset.theme);
    } catch (error) {
      // Not kept, then.
    }
    label(button);
    all();
  });
  wantsDark.addEventListener("change", function () { label(button); all(); });
  narrow.addEventListener("change", all);

  var opened = [];
  addEventListener("beforeprint", function () {
    printing = true;
    document.querySelectorAll("details[data-printed]:not([open])").forEach(function (element) {
      element.open = true;
      opened.push(element);
    });
    root.dataset.printing = "yes";
    all();
  });
  addEventListener("afterprint", function () {
    printing = false;
    opened.splice(0).forEach(function (element) { element.open = false; });
    delete root.dataset.printing;
    all();
  });

  // A table that scrolls is in the row of the keyboard; one that fits is not.
  function reachable() {
    document.querySelectorAll(".scroll").forEach(function (region) {
      if (region.scrollWidth > region.clientWidth + 1) region.tabIndex = 0;
      else region.removeAttribute("tabindex");
    });
  }
  addEventListener("resize", reachable);
  document.addEventListener("toggle", reachable, true);
  reachable();

  oneByOne(Object.keys(charts));
})();
