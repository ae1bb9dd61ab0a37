// Where a person labels: one sample large, its planes linked, and a button and a key for each answer.
//
// Everything about looking (slices, windows, zoom) happens here and asks the server for slices only.
// Everything about answering goes to the server as {act, row, ...} with the row that is on the
// screen, so that a key pressed a moment too late is never taken for the next sample.

const PLANES = ["Axial", "Coronal", "Sagittal"];
// plane -> [axis down the picture, axis along it]; coronal and sagittal have the head above
const AXES = [[1, 2], [0, 2], [0, 1]];
const PRESETS = { Lung: [-1000, 400], Mediastinum: [-160, 240], Bone: [-450, 1050] };
// what lies at the edges of a plane, where the volume's axes are known
const SIDES = [
  { top: "A", bottom: "P", left: "R", right: "L" },
  { top: "H", bottom: "F", left: "R", right: "L" },
  { top: "H", bottom: "F", left: "A", right: "P" },
];
const MOUSE = {
  volume: [
    ["wheel", "slices, as the arrows up and down; with Ctrl: zoom"],
    ["click, drag", "move the cross-hair"],
    ["right drag", "own window, also with Shift: across for contrast, down for brightness"],
  ],
  image: [
    ["wheel", "zoom"],
    ["drag", "move the image"],
    ["right drag", "own window, also with Shift: across for contrast, down for brightness"],
  ],
};
// how somebody likes to look at samples, kept for as long as the browser's tab is open
const HABITS = { preset: "", own: null, inverted: false, box: true, cross: true, closer: 1 };
function remembered() {
  try {
    const kept = JSON.parse(sessionStorage.getItem("view")) || {};
    return Object.fromEntries(Object.keys(HABITS).map((name) => [name, kept[name] ?? HABITS[name]]));
  } catch { return { ...HABITS }; }
}
const TYPED = ["INPUT", "TEXTAREA", "SELECT"];

export default {
  template: `
    <div class="station">
      <section class="viewer" aria-label="Sample" ref="viewer" @click="unfocus" :data-ready="ready"
               :data-row="sample ? sample.row : null">
        <p v-if="!sample" class="waiting" role="status">{{ waiting }}</p>
        <p v-else-if="sample.problem" class="waiting" role="alert">{{ sample.problem }}</p>
        <template v-else>
          <div :class="sample.volume ? 'planes' : 'planes single'">
            <figure v-for="plane in planes" :key="plane" :class="{ active: plane === active }">
              <div class="frame" :ref="'frame' + plane" @wheel.prevent="onWheel($event, plane)"
                   @pointerdown="onDown($event, plane)" @pointermove="onMove($event, plane)"
                   @pointerup="onUp" @pointercancel="onUp" @pointerleave="onLeave"
                   @contextmenu.prevent>
                <div class="sheet" :style="sheetStyle(plane)">
                  <img :src="shown[plane]" :style="imageStyle" draggable="false"
                       :alt="altOf(plane)" @load="onLoad(plane)" @error="onError(plane)">
                  <svg v-if="sample.volume" :viewBox="viewBox(plane)" preserveAspectRatio="none"
                       aria-hidden="true">
                    <g v-if="cross" class="cross">
                      <line v-for="(ends, i) in lines(plane)" :key="i" v-bind="ends"/>
                    </g>
                    <rect v-if="box && sample.box" :class="inBox(plane) ? 'box' : 'box off'"
                          v-bind="rect(plane)"/>
                  </svg>
                </div>
                <span v-if="sample.volume && plane === 0" class="value" aria-hidden="true">{{ value }}</span>
                <template v-if="sample.oriented">
                  <span v-for="(mark, side) in sides[plane]" :key="side" :class="['mark', 'at-' + side]"
                        aria-hidden="true">{{ mark }}</span>
                  <span class="scale" :style="{ width: scale(plane).pixels + 'px' }"
                        aria-hidden="true">{{ scale(plane).mm }} mm</span>
                </template>
              </div>
              <figcaption v-if="sample.volume">
                <span>{{ names[plane] }} {{ at[plane] + 1 }} / {{ sample.shape[plane] }}
                  <small v-if="sample.oriented">{{ +sample.spacing[plane].toFixed(2) }} mm</small></span>
                <input type="range" min="0" :max="sample.shape[plane] - 1" v-model.number="at[plane]"
                       :aria-label="names[plane] + ' slice'" @input="refresh">
              </figcaption>
            </figure>
          </div>
          <div class="tools" role="toolbar" aria-label="View">
            <template v-if="sample.ct">
              <button v-for="(range, name) in presets" :key="name" type="button"
                      :aria-pressed="preset === name" @click="choose(name)">{{ name }}</button>
            </template>
            <button type="button" :aria-pressed="preset === 'Own'" @click="choose('Own')">
              Own</button>
            <span class="range">{{ figure(low) }} to {{ figure(high) }}</span>
            <button type="button" :aria-pressed="inverted" @click="inverted = !inverted">Invert</button>
            <button type="button" aria-label="Zoom out" @click="zoomBy(1 / 1.25)">−</button>
            <span class="zoom">{{ Math.round(zoom * 100) }} %</span>
            <button type="button" aria-label="Zoom in" @click="zoomBy(1.25)">+</button>
            <button type="button" @click="home">Reset</button>
            <button v-if="sample.box" type="button" :aria-pressed="box" @click="box = !box">Box</button>
            <button v-if="sample.volume" type="button" :aria-pressed="cross" @click="cross = !cross">
              Cross-hair</button>
            <span v-if="sample.box" class="range">{{ extent }}</span>
          </div>
        </template>
      </section>
      <section class="answers" aria-label="Answer" @click="unfocus">
        <h2 v-if="sample && !sample.problem && !looks" class="question">{{ sample.box
          ? "What is the lesion in the box?" : "What is this?" }}</h2>
        <p class="what" v-if="note">{{ note }}</p>
        <div v-if="!looks && (sample || !review)" class="classes">
          <button v-for="(name, i) in classes" :key="i" type="button" class="class"
                  :disabled="!ready" :aria-keyshortcuts="keyOf('class' + (i + 1))"
                  @click="answer(i)"><kbd v-if="keyOf('class' + (i + 1))">{{ keyOf('class' + (i + 1)) }}</kbd>
            {{ name }}<template v-if="guide && guide[i]">
              <small v-if="guide[i].text">{{ guide[i].text }}</small>
              <img v-if="guide[i].picture" :src="'/guide/' + i" alt=""></template></button>
        </div>
        <div class="others">
          <button v-if="!review && !looks" type="button" :aria-pressed="unsure" :disabled="!ready"
                  :aria-keyshortcuts="keyOf('unsure')" @click="unsure = !unsure">
            <kbd>{{ keyOf('unsure') }}</kbd> Unsure</button>
          <button v-if="!looks" type="button" :disabled="!sample || away"
                  :aria-keyshortcuts="keyOf('skip')" @click="answer(-1)">
            <kbd>{{ keyOf('skip') }}</kbd> {{ review ? "Pass" : "Skip" }}</button>
          <button v-if="!review && !looks" type="button" :disabled="away" :aria-keyshortcuts="keyOf('undo')" @click="undo">
            <kbd>{{ keyOf('undo') }}</kbd> Undo</button>
          <button type="button" class="help" :aria-keyshortcuts="keyOf('help')" aria-label="Keys"
                  title="Keys" @click="help"><kbd>{{ keyOf('help') }}</kbd></button>
        </div>
        <p :class="['message', alarming ? 'alarming' : '']" :role="alarming ? 'alert' : 'status'"
           aria-live="polite">{{ away ? "" : message }}</p>
        <p v-if="away" class="alarming" role="alert">The program cannot be reached: it has ended, or
          the network has. What is saved is safe. When it runs again this page goes on.</p>
        <div class="progress" v-if="progress">
          <progress :max="progress.wanted" :value="progress.done" aria-label="Answered"></progress>
          <p>{{ progress.text }}</p>
        </div>
        <div class="curve" v-if="curve" v-html="curve"></div>
        <p class="outlook" v-if="outlook">{{ outlook }}</p>
      </section>
      <dialog ref="dialog" aria-label="Keys">
        <h2>Keys</h2>
        <table><tbody><tr v-for="[key, what] in [...keyTable, ...mouse]" :key="key + what">
          <th scope="row"><kbd>{{ key }}</kbd></th><td>{{ what }}</td></tr></tbody></table>
        <form method="dialog"><button autofocus>Close</button></form>
      </dialog>
    </div>`,
  props: {
    sample: Object, upcoming: Object, classes: Array, keys: Object, key_table: Array,
    waiting: String, note: String, message: String, alarming: Boolean, progress: Object,
    curve: String, outlook: String, review: Boolean, looks: Boolean, guide: Array,
  },
  data: () => ({
    names: PLANES, sides: SIDES, at: [0, 0, 0], active: 0, zoom: 1, low: 0, high: 255, value: "",
    unsure: false, shown: {}, loaded: {}, wanted: {}, busy: {}, frames: {}, dragging: null, since: 0,
    away: false, ...remembered(),
  }),
  computed: {
    planes() { return this.sample && this.sample.volume ? [0, 1, 2] : [0]; },
    presets() { return PRESETS; },
    keyTable() { return this.key_table || []; },
    mouse() { return this.sample ? MOUSE[this.sample.volume ? "volume" : "image"] : []; },
    habits() { return Object.fromEntries(Object.keys(HABITS).map((name) => [name, this[name]])); },
    ready() {
      const { sample, away } = this;
      return Boolean(sample) && !away && !sample.problem && this.planes.every((p) => this.loaded[p]);
    },
    extent() { // of the box, to the left, to the back, upwards
      const sides = this.sample.box.map(([low, high], i) => (high - low) * this.sample.spacing[i]);
      return sides.reverse().map((mm) => mm.toFixed(mm < 10 ? 1 : 0)).join(" × ") + " mm";
    },
    imageStyle() {
      const small = this.sample && Math.max(...this.sample.shape.slice(-2)) <= 96;
      return { filter: this.inverted ? "invert(1)" : "none", imageRendering: small ? "pixelated" : "auto" };
    },
  },
  watch: {
    sample(now, before) {
      if (!now || !before || now.row !== before.row || now.problem !== before.problem) this.begin();
    },
    upcoming() { this.preload(); },
    habits(now) { sessionStorage.setItem("view", JSON.stringify(now)); },
  },
  mounted() {
    document.addEventListener("keydown", this.onKey);
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(this.$refs.viewer);
    this.looking = setInterval(() => { this.away = Boolean(window.socket) && !window.socket.connected; }, 1000);
    this.begin();
  },
  unmounted() {
    document.removeEventListener("keydown", this.onKey);
    this.observer.disconnect();
    clearInterval(this.looking);
  },
  methods: {
    // --- a sample comes ---
    begin() {
      this.unsure = false;
      this.since = 0;
      this.busy = {};
      this.loaded = {};
      this.wanted = {};
      this.shown = {};
      if (!this.sample || this.sample.problem) return;
      this.at = [...this.sample.centre];
      this.value = "";
      this.fit();
      const { ct, window } = this.sample;
      const ownFits = window[0] === 0 && window[1] === 255; // as all have the same greys
      this.choose(ct ? this.preset || "Lung" : ownFits && this.preset === "Own" ? "Own" : "", false);
      this.refresh();
      this.$nextTick(this.measure);
      this.preload();
    },
    url(sample, plane, index) {
      const plain = !sample.ct && this.preset !== "Own";
      const window = plain ? "" : `?low=${this.low}&high=${this.high}`;
      return `/slices/${sample.row}/${plane}/${index}${window}`;
    },
    refresh() {
      for (const plane of this.planes) this.fetch(plane);
      this.readValue();
    },
    // one picture of a plane is on its way at a time; the last that is wanted comes next
    fetch(plane) {
      const url = this.url(this.sample, plane, this.sample.volume ? this.at[plane] : 0);
      this.wanted[plane] = url;
      if (!this.busy[plane]) this.start(plane);
    },
    start(plane) {
      if (this.shown[plane] === this.wanted[plane]) return;
      this.busy[plane] = true;
      this.shown = { ...this.shown, [plane]: this.wanted[plane] };
    },
    onLoad(plane) {
      const first = !this.ready;
      this.busy[plane] = false;
      this.loaded = { ...this.loaded, [plane]: true };
      if (this.ready && first) this.since = performance.now();
      this.start(plane);
    },
    onError(plane) {
      this.busy[plane] = false;
      if (this.shown[plane] !== this.wanted[plane]) return this.start(plane);
      this.shown = { ...this.shown, [plane]: undefined }; // so that it can be asked for again
      this.act({ act: "unloaded" });
    },
    preload() {
      const next = this.upcoming;
      if (!next || next.problem) return;
      const planes = next.volume ? [0, 1, 2] : [0];
      this.kept = planes.map((plane) => {
        const image = new Image();
        image.src = this.url(next, plane, next.volume ? next.centre[plane] : 0);
        return image;
      });
    },
    // --- geometry: sheets have the shape of their slice in mm, zoomed about the cross-hair ---
    size(plane) {
      const [down, along] = AXES[plane];
      const { shape, spacing, volume } = this.sample;
      if (!volume) return [shape[0], shape[1]];
      return [shape[down] * spacing[down], shape[along] * spacing[along]];
    },
    place(plane) { // of the cross-hair in the sheet, 0 to 1 down and along
      const { shape, volume } = this.sample;
      if (!volume) return [this.at[0], this.at[1]].map((v, i) => (v + 0.5) / shape[i]);
      const [down, along] = AXES[plane];
      const y = (this.at[down] + 0.5) / shape[down];
      return [plane > 0 ? 1 - y : y, (this.at[along] + 0.5) / shape[along]];
    },
    measure() {
      const found = {};
      for (const plane of this.planes) {
        const frame = this.frameOf(plane);
        if (frame) found[plane] = [frame.clientHeight, frame.clientWidth];
      }
      this.frames = found;
    },
    frameOf(plane) { const found = this.$refs["frame" + plane]; return Array.isArray(found) ? found[0] : found; },
    sheet(plane) {
      const [rows, columns] = this.frames[plane] || [0, 0];
      const [height, width] = this.size(plane);
      const scale = Math.min(rows / height, columns / width) * this.zoom;
      const [h, w] = [height * scale, width * scale];
      const [y, x] = this.place(plane);
      const put = (room, length, part) =>
        length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, room / 2 - part * length));
      return { top: put(rows, h, y), left: put(columns, w, x), height: h, width: w };
    },
    sheetStyle(plane) {
      const found = this.sheet(plane);
      return Object.fromEntries(Object.entries(found).map(([name, value]) => [name, value + "px"]));
    },
    viewBox(plane) { const [d, a] = AXES[plane]; return `0 0 ${this.sample.shape[a]} ${this.sample.shape[d]}`; },
    lines(plane) { // of the cross-hair, open around what it points at
      const [d, a] = AXES[plane];
      const { height, width } = this.sheet(plane);
      const size = [this.sample.shape[d], this.sample.shape[a]];
      const at = this.place(plane).map((part, i) => part * size[i]);
      const open = at.map((v, i) => { // 16 pixels on each side, and the box where it is within
        const room = (16 * size[i]) / ([height, width][i] || 1);
        const box = this.sample.box && this.inBox(plane) ? this.rect(plane) : null;
        const [low, length] = box ? [[box.y, box.height], [box.x, box.width]][i] : [v, 0];
        const near = v >= low && v <= low + length;
        return near ? [Math.min(v, low) - room, Math.max(v, low + length) + room] : [v - room, v + room];
      });
      const ends = (i) => [[0, Math.max(0, open[i][0])], [Math.min(size[i], open[i][1]), size[i]]];
      return [
        ...ends(1).map(([x1, x2]) => ({ x1, x2, y1: at[0], y2: at[0] })),
        ...ends(0).map(([y1, y2]) => ({ x1: at[1], x2: at[1], y1, y2 })),
      ];
    },
    scale(plane) { // a round length in mm of about a fifth of the plane, and what it is on the screen
      const mm = this.size(plane)[1];
      const { width } = this.sheet(plane);
      const room = (this.frames[plane] || [0, 0])[1] / 5;
      const fits = [1, 2, 5, 10, 20, 50, 100, 200].filter((each) => (each * width) / mm <= Math.max(room, 40));
      const chosen = fits.length ? fits[fits.length - 1] : 1;
      return { mm: chosen, pixels: (chosen * width) / mm };
    },
    inBox(plane) {
      if (!this.sample.box) return false;
      const [low, high] = this.sample.box[plane];
      return this.at[plane] >= low - 0.5 && this.at[plane] <= high + 0.5;
    },
    rect(plane) { // voxel i covers i to i + 1 of the sheet
      const [d, a] = AXES[plane];
      const [y0, y1] = this.sample.box[d].map((v) => v + 0.5);
      const [x0, x1] = this.sample.box[a].map((v) => v + 0.5);
      const rows = this.sample.shape[d];
      return { x: x0, width: x1 - x0, y: plane > 0 ? rows - y1 : y0, height: y1 - y0 };
    },
    altOf(plane) {
      if (!this.sample.volume) return "The sample";
      return `${PLANES[plane]} slice ${this.at[plane] + 1} of ${this.sample.shape[plane]}`;
    },
    // --- mouse, pen and finger ---
    onWheel(event, plane) {
      this.active = plane;
      if (!this.sample.volume || event.ctrlKey) this.zoomBy(event.deltaY < 0 ? 1.1 : 1 / 1.1);
      else this.move(plane, -Math.sign(event.deltaY)); // as the arrows: up is towards the head
    },
    onDown(event, plane) {
      this.active = plane;
      const windowing = event.button === 2 || event.shiftKey;
      this.dragging = { plane, windowing, x: event.clientX, y: event.clientY };
      event.target.setPointerCapture && event.currentTarget.setPointerCapture(event.pointerId);
      if (!windowing && this.sample.volume) this.point(event, plane);
    },
    onMove(event, plane) {
      const drag = this.dragging;
      this.pointer = { clientX: event.clientX, clientY: event.clientY, plane };
      this.readValue();
      if (!drag || drag.plane !== plane) return;
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      [drag.x, drag.y] = [event.clientX, event.clientY];
      if (drag.windowing) this.drawWindow(dx, dy);
      else if (this.sample.volume) this.point(event, plane);
      else this.pan(dx, dy);
    },
    onUp() { this.dragging = null; },
    onLeave() { this.pointer = null; this.value = ""; },
    voxel(event, plane) { // under the pointer
      const frame = this.frameOf(plane).getBoundingClientRect();
      const sheet = this.sheet(plane);
      const y = (event.clientY - frame.top - sheet.top) / sheet.height;
      const x = (event.clientX - frame.left - sheet.left) / sheet.width;
      const [d, a] = AXES[plane];
      const found = [...this.at];
      found[d] = Math.floor((plane > 0 ? 1 - y : y) * this.sample.shape[d]);
      found[a] = Math.floor(x * this.sample.shape[a]);
      return found;
    },
    point(event, plane) {
      this.voxel(event, plane).forEach((value, axis) => this.set(axis, value));
      this.refresh();
    },
    readValue() { // under the pointer, which may be at rest while slices go by
      const { pointer } = this;
      if (pointer && this.sample.volume) this.read(this.voxel(pointer, pointer.plane));
    },
    async read(at) { // its value; one question is on its way at a time, and the last counts
      this.asked = at;
      if (this.reading) return;
      this.reading = true;
      const { row, ct, shape } = this.sample;
      if (at.every((v, i) => v >= 0 && v < shape[i])) {
        const answer = await fetch(`/values/${row}/${at.join("/")}`).catch(() => null);
        const found = answer && answer.ok ? await answer.text() : "";
        if (this.sample && this.sample.row === row) this.value = found && found + (ct ? " HU" : "");
      } else this.value = "";
      this.reading = false;
      if (this.asked !== at && this.sample) this.read(this.asked);
    },
    pan(dx, dy) {
      const sheet = this.sheet(0);
      const [rows, columns] = this.sample.shape;
      this.set(0, this.at[0] - (dy / sheet.height) * rows);
      this.set(1, this.at[1] - (dx / sheet.width) * columns);
    },
    set(axis, value) {
      this.at[axis] = Math.min(this.sample.shape[axis] - 1, Math.max(0, value));
    },
    move(plane, by) { this.set(plane, this.at[plane] + by); this.refresh(); },
    fit() { this.zoom = Math.min(20, Math.max(1, this.sample.zoom * this.closer)); },
    zoomBy(factor) { // closer than is usual, for the samples that come too
      this.closer *= factor;
      this.fit();
      this.closer = this.zoom / this.sample.zoom;
    },
    home() {
      this.at = [...this.sample.centre];
      this.closer = 1;
      this.fit();
      this.choose(this.sample.ct ? "Lung" : "", true);
    },
    // --- windows ---
    choose(name, now = true) {
      this.preset = name;
      if (name === "Own") [this.low, this.high] = this.own || this.sample.window;
      else if (name) [this.low, this.high] = PRESETS[name];
      else [this.low, this.high] = this.sample.window;
      if (now) { this.refresh(); this.preload(); }
    },
    drawWindow(dx, dy) { // along: contrast; down: brightness
      const least = (this.sample.window[1] - this.sample.window[0]) / 1000;
      const width = Math.max(least, (this.high - this.low) * Math.exp(dx / 200));
      const level = (this.high + this.low) / 2 + (dy * (this.high - this.low)) / 400;
      this.own = [level - width / 2, level + width / 2].map((v) => Math.round((v / least) * 10) * least / 10);
      this.choose("Own");
    },
    figure(value) { // with the digits that a window of this width needs
      const digits = Math.ceil(2 - Math.log10(Math.max(this.high - this.low, 1e-9)));
      return value.toFixed(Math.min(9, Math.max(0, digits)));
    },
    nextWindow() {
      const names = this.sample.ct ? [...Object.keys(PRESETS), "Own"] : ["", "Own"];
      this.choose(names[(names.indexOf(this.preset) + 1) % names.length]);
    },
    // --- answers ---
    act(what) { // what is done while there is no connection would come later, and all at once
      if (!window.socket || window.socket.connected) this.$emit("act", what);
    },
    answer(label) {
      if (!this.sample || this.looks || (label >= 0 && !this.ready)) return;
      const seconds = this.since ? (performance.now() - this.since) / 1000 : 0;
      this.act({ act: "answer", row: this.sample.row, label, unsure: this.unsure, seconds });
    },
    undo() { this.act({ act: "undo" }); },
    help() { this.$refs.dialog.showModal(); },
    unfocus(event) { // by the mouse: a ring would look as if the button had been chosen
      const button = event.detail > 0 && event.target.closest("button");
      if (button) button.blur();
    },
    keyOf(action) { return (this.keys || {})[action] || ""; },
    onKey(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || this.$refs.dialog.open) return;
      const typing = TYPED.includes(event.target.tagName);
      if (typing && !(event.target.type === "range" && event.key.length === 1)) return;
      const of = (key) => Object.keys(this.keys).find((name) => this.keys[name] === key);
      const action = of(event.key) || of(event.key.toLowerCase()); // Caps Lock may be on
      if (!action) return;
      event.preventDefault();
      if (event.repeat && !["up", "down", "zoom_in", "zoom_out"].includes(action)) return;
      if (action.startsWith("class")) return this.answer(Number(action.slice(5)) - 1);
      if (action === "skip") return this.answer(-1);
      if (action === "undo" && !this.review && !this.looks) return this.undo();
      if (action === "help") return this.help();
      if (!this.sample || this.sample.problem) return;
      const looks = {
        unsure: () => { if (!this.review) this.unsure = !this.unsure; },
        up: () => this.sample.volume && this.move(this.active, 1),
        down: () => this.sample.volume && this.move(this.active, -1),
        left: () => this.turn(-1), right: () => this.turn(1),
        lung: () => this.sample.ct && this.choose("Lung"),
        mediastinum: () => this.sample.ct && this.choose("Mediastinum"),
        bone: () => this.sample.ct && this.choose("Bone"),
        window: () => this.nextWindow(), invert: () => { this.inverted = !this.inverted; },
        zoom_in: () => this.zoomBy(1.25), zoom_out: () => this.zoomBy(1 / 1.25),
        reset: () => this.home(), box: () => { this.box = !this.box; },
        cross: () => { this.cross = !this.cross; },
      };
      looks[action] && looks[action]();
    },
    turn(by) { if (this.sample.volume) this.active = (this.active + by + 3) % 3; },
  },
};
