"use strict";
// Before anything is drawn, so that the page does not flash in the other theme.
(function () {
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var kept = localStorage.getItem("gatenorm-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch (error) {
    // Files opened from disk may have no storage: the system's choice stands.
  }
})();
